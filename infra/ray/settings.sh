# Read by start-head and start-worker: checks what both need and says what is missing. Defines `fail`.

fail() {
    echo "${0##*/}: $1" >&2
    exit 2
}

port() {  # name value
    case $2 in
        '' | *[!0-9]*) fail "$1=$2 is not a port; give a number from 0 to 65535" ;;
    esac
    [ "$2" -le 65535 ] || fail "$1=$2 is not a port; give a number from 0 to 65535"
}

count() {  # name value
    case $2 in
        '' | *[!0-9]*) fail "$1=$2 is not a whole number" ;;
    esac
}

command -v "${RAY_BIN:=ray}" > /dev/null 2>&1 ||
    fail "no command '$RAY_BIN': activate the environment that lth is installed in, or set RAY_BIN to its bin/ray"

# Without a token everybody who reaches these ports runs code here.
export RAY_AUTH_MODE=token
if [ -n "${RAY_AUTH_TOKEN:-}" ]; then
    token=$RAY_AUTH_TOKEN
elif [ -n "${RAY_AUTH_TOKEN_PATH:-}" ]; then
    [ -r "$RAY_AUTH_TOKEN_PATH" ] ||
        fail "RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH cannot be read; make one with new-token, copy it to every machine"
    [ -z "$(find -L "$RAY_AUTH_TOKEN_PATH" -perm /077)" ] ||
        fail "others may read RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH; chmod 600 it"
    token=$(cat "$RAY_AUTH_TOKEN_PATH")
else
    fail "no token: set RAY_AUTH_TOKEN_PATH to a file made by new-token, the same on every machine"
fi
[ "${#token}" -ge 32 ] || fail "the token has fewer than 32 characters; make one with new-token"
unset token

[ -n "${RAY_NODE_IP:-}" ] ||
    fail "set RAY_NODE_IP to the address under which the other machines reach this one (127.0.0.1 if there are none)"
count RAY_NUM_CPUS "${RAY_NUM_CPUS:=$(nproc)}"
if [ -z "${RAY_NUM_GPUS:-}" ]; then
    RAY_NUM_GPUS=0
    if command -v nvidia-smi > /dev/null 2>&1; then
        RAY_NUM_GPUS=$(nvidia-smi --list-gpus 2> /dev/null | grep -c '^GPU ' || true)
    fi
fi
count RAY_NUM_GPUS "$RAY_NUM_GPUS"

# Ray tells its makers nothing about us.
export RAY_USAGE_STATS_ENABLED=0 DO_NOT_TRACK=1
# Two heaps for all threads of a process: with one for each, workers and flows grow for as long as they run.
export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-2}"

# What both kinds of node are started with. `--block` stays in the foreground: whoever started us supervises Ray by
# this process, and its end is the node's end.
set -- --block --disable-usage-stats --node-ip-address "$RAY_NODE_IP" --num-gpus "$RAY_NUM_GPUS" "$@"
if [ -n "${RAY_OBJECT_STORE_BYTES:-}" ]; then
    count RAY_OBJECT_STORE_BYTES "$RAY_OBJECT_STORE_BYTES"
    set -- "$@" --object-store-memory "$RAY_OBJECT_STORE_BYTES"
fi
if [ -n "${RAY_WORKER_PORTS:-}" ]; then
    port RAY_WORKER_PORTS "${RAY_WORKER_PORTS%-*}"
    port RAY_WORKER_PORTS "${RAY_WORKER_PORTS#*-}"
    set -- "$@" --min-worker-port "${RAY_WORKER_PORTS%-*}" --max-worker-port "${RAY_WORKER_PORTS#*-}"
fi
if [ -n "${RAY_AGENT_PORT:-}" ]; then
    port RAY_AGENT_PORT "$RAY_AGENT_PORT"
    set -- "$@" --dashboard-agent-listen-port "$RAY_AGENT_PORT"
fi
if [ -n "${RAY_NODE_MANAGER_PORT:-}" ]; then
    port RAY_NODE_MANAGER_PORT "$RAY_NODE_MANAGER_PORT"
    set -- "$@" --node-manager-port "$RAY_NODE_MANAGER_PORT"
fi
if [ -n "${RAY_OBJECT_MANAGER_PORT:-}" ]; then
    port RAY_OBJECT_MANAGER_PORT "$RAY_OBJECT_MANAGER_PORT"
    set -- "$@" --object-manager-port "$RAY_OBJECT_MANAGER_PORT"
fi
