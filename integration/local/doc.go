// Package local runs Weft as a cluster on this machine, by plain processes: a Redis, some nodes, and
// a load balancer before them. `make cluster` and `make bench-cluster` use it. For both
// benchmarks it tells what the machine is and does.
//
// redis-server and haproxy are taken from the PATH; Debian has packages of the same names. All that is
// stored is in one folder, everything listens on loopback only, and Close ends every process that was
// started, by its id.
package local
