# Two machines and a head on one: hosts.sh TEMP HIDDEN... -- COMMAND... runs COMMAND beside a Ray head without CPUs, at 10.99.0.1:6379.
# Two nodes, 10.99.0.2 and .3, have network, /tmp/ray-like TEMP and process tree of their own, and see nothing in HIDDEN folders.
# Call it by `unshare --map-root-user --mount --net --pid --fork --kill-child --mount-proc sh`, with PATH leading to ray.
set -e
if [ "$1" = node ]; then
    address=$2; shift 2
    until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
    ip link set lo up; ip address add "$address/24" dev eth0; ip link set eth0 up
    for folder in "$@"; do mount -t tmpfs tmpfs "$folder"; done
    cd "$folder"  # the last of them: nothing to import there
    exec env -u PYTHONPATH ray start --block --address=10.99.0.1:6379 --node-ip-address="$address" --num-cpus=1 \
        --object-store-memory=100000000
fi
temp=$1; hidden=""
while [ "$1" != -- ]; do hidden="$hidden $1"; shift; done
shift
ip link set lo up; ip link add br0 type bridge; ip address add 10.99.0.1/24 dev br0; ip link set br0 up
ray start --head --block --node-ip-address=10.99.0.1 --port=6379 --num-cpus=0 --include-dashboard=false --temp-dir="$temp" \
    --object-store-memory=100000000 >"$temp/head.log" 2>&1 &
until [ -e "$temp/ray_current_cluster" ]; do sleep 0.1; done
for number in 2 3; do
    unshare --net --mount sh "$0" node 10.99.0.$number $hidden >"$temp/node$number.log" 2>&1 &
    until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
    ip link add host$number type veth peer name eth0 netns $!; ip link set host$number master br0 up
done
tries=0
until [ "$(ray status --address=10.99.0.1:6379 2>/dev/null | grep -c '^ 1 node_')" -ge 3 ]; do
    tries=$((tries + 1))
    [ $tries -lt 60 ] || { echo "the nodes have not come up; see $temp" >&2; exit 1; }
    sleep 0.5
done
"$@"
