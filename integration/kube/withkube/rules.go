package main

import (
	"os/exec"
	"strings"
)

// rules let pods reach each other where the machine forwards nothing else, as it does where Docker runs, and
// nobody beyond this machine where it forwards everything. The last one inserted comes first.
func rules(action string) [][]string {
	var all [][]string
	for _, r := range [][]string{
		{"-s", podRange, "-j", "REJECT"},
		{"-s", podRange, "-d", podRange, "-j", "ACCEPT"},
	} {
		all = append(all, append([]string{"iptables", "--wait", "10", action, "FORWARD", "-m", "comment", "--comment", "weft-kube"}, r...))
	}
	return all
}

// removeKubeRules removes the chains of Kubernetes and what leads there. There were none before.
func removeKubeRules() error {
	for _, program := range []string{"iptables", "ip6tables"} {
		saved, err := exec.Command(program + "-save").Output()
		if err != nil {
			continue // a machine without
		}
		for _, script := range removals(string(saved)) {
			cmd := exec.Command(program+"-restore", "--noflush", "--wait", "10")
			cmd.Stdin = strings.NewReader(script)
			if err := output(cmd); err != nil {
				return err
			}
		}
	}
	return nil
}

// removals are what iptables-restore has to read, one after the other, so that of the rules that
// iptables-save wrote those of Kubernetes go. There is nothing to do if it has none.
func removals(saved string) []string {
	var empty, remove strings.Builder
	found := false
	for line := range strings.Lines(saved) {
		switch {
		case strings.HasPrefix(line, "*"), strings.HasPrefix(line, "COMMIT"):
			empty.WriteString(line)
			remove.WriteString(line)
		case strings.HasPrefix(line, ":KUBE-"):
			found = true
			chain, _, _ := strings.Cut(line[1:], " ")
			// Declaring a chain empties it. When no rule leads from one to another, all can go.
			empty.WriteString(":" + chain + " - [0:0]\n")
			remove.WriteString("-X " + chain + "\n")
		case strings.HasPrefix(line, "-A ") && strings.Contains(line, "-j KUBE-") && !strings.HasPrefix(line, "-A KUBE-"):
			empty.WriteString("-D " + line[len("-A "):])
		}
	}
	if !found {
		return nil
	}
	return []string{empty.String(), remove.String()}
}
