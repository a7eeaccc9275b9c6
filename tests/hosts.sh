#!/bin/sh
# Simulates several hosts on one machine: network namespaces on a private bridge, with a limited bandwidth. Their traffic
# cannot leave the bridge. Needs root and iproute2.
#
#   hosts.sh NAME up N RATE        creates hosts 0 … N-1 with addresses 10.97.0.1 … 10.97.0.N; RATE is a rate of tc, e.g. 1gbit
#   hosts.sh NAME in I COMMAND…    runs a command on host I
#   hosts.sh NAME cut I            disconnects host I
#   hosts.sh NAME down             removes the hosts and kills their processes
#   hosts.sh NAME agent            prints the path of a script that mpirun uses instead of ssh
#
# NAME (at most 6 characters) identifies a set of hosts, so that several sets can exist.
set -eu

name=$1
verb=$2
shift 2
hub=$name-hub
host() { echo "$name-h$1"; }
agent=${TMPDIR:-/tmp}/wgrad-hosts-$name

case $verb in
up)
    count=$1 rate=$2
    ip netns add "$hub"
    ip -n "$hub" link add bridge type bridge
    ip -n "$hub" link set bridge up
    i=0
    while [ "$i" -lt "$count" ]; do
        h=$(host "$i")
        ip netns add "$h"
        ip -n "$h" link add eth0 type veth peer name "port$i" netns "$hub"
        ip -n "$hub" link set "port$i" master bridge up
        ip -n "$h" link set lo up
        ip -n "$h" addr add "10.97.0.$((i + 1))/24" dev eth0
        ip -n "$h" link set eth0 up
        # When a link is cut, output of the ranks is in transit. With fewer retries, TCP (and with it Open MPI's daemon) gives
        # up after seconds instead of a quarter of an hour.
        ip netns exec "$h" sh -c 'echo 4 >/proc/sys/net/ipv4/tcp_retries2'
        ip netns exec "$h" tc qdisc add dev eth0 root tbf rate "$rate" burst 128kb latency 50ms
        i=$((i + 1))
    done
    # mpirun calls this script with an address and a command.
    cat >"$agent" <<SCRIPT
#!/bin/sh
address=\$1
shift
exec ip netns exec $name-h\$((\${address##*.} - 1)) sh -c "\$*"
SCRIPT
    chmod +x "$agent"
    ;;
in)
    h=$(host "$1")
    shift
    exec ip netns exec "$h" "$@"
    ;;
cut)
    ip -n "$(host "$1")" link set eth0 down
    ;;
down)
    for h in $(ip netns list | cut -d' ' -f1 | grep "^$name-" || true); do
        ip netns pids "$h" | xargs -r kill -KILL 2>/dev/null || true
        ip netns del "$h"
    done
    rm -f "$agent"
    ;;
agent)
    echo "$agent"
    ;;
*)
    echo "hosts.sh: unknown verb $verb, expected one of up, in, cut, down, agent" >&2
    exit 2
    ;;
esac
