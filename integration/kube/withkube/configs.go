package main

// adminConf takes the node's address, the state's folder and a token.
const adminConf = `apiVersion: v1
kind: Config
clusters:
- name: weft-kube
  cluster: {server: "https://%s:6443", certificate-authority: "%s/apiserver/apiserver.crt"}
users:
- name: admin
  user: {token: "%s"}
contexts:
- name: weft-kube
  context: {cluster: weft-kube, user: admin}
current-context: weft-kube
`

// containerdConf takes the state's folder, the socket, the pause image and the folder of the plugins.
const containerdConf = `version = 2
root = "%[1]s/containerd"
state = "%[1]s/containerd-state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "%[2]s"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "%[3]s"
  # Without the right to make a process less likely to be killed, it stays as likely.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "%[4]s"
    conf_dir = "%[1]s/cni"
`

// networkConf takes the state's folder and the pods' addresses. Every pod is routed, on links of its
// own: on a bridge, answers of a pod to its neighbour would not pass the rules that undo what a Service's
// address was made into. Nothing is masqueraded, so pods reach this machine and no further.
const networkConf = `{
  "cniVersion": "0.4.0",
  "name": "weft-kube",
  "type": "ptp",
  "ipam": {
    "type": "host-local",
    "dataDir": "%s/cni-addresses",
    "ranges": [[{"subnet": "%s"}]],
    "routes": [{"dst": "0.0.0.0/0"}]
  }
}
`

// kubeletConf takes the socket, the state's folder, the node's address, that of the DNS, and the cgroup
// of all pods.
const kubeletConf = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: "unix://%[1]s"
address: "%[3]s"
healthzBindAddress: 127.0.0.1
readOnlyPort: 0
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: false}
  x509: {clientCAFile: "%[2]s/keys/kubelet-ca.crt"}
authorization: {mode: AlwaysAllow}
clusterDNS: ["%[4]s"]
clusterDomain: cluster.local
resolvConf: "%[2]s/resolv.conf"
cgroupDriver: cgroupfs
cgroupRoot: "/%[5]s"
enforceNodeAllocatable: []
failSwapOn: false
makeIPTablesUtilChains: false
# A disk that is nearly full, and images that nobody uses just now, are none of its business here.
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%", imagefs.inodesFree: "0%%"}
`
