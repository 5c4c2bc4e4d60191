# What the examples share. Sourced by each one's `run`, with that one's arguments: a mesh of the example's name with
# the small shop in it, or what `manifest` and `intro` say, which ends when the script does, on failure and on Ctrl-C
# too.
set -euo pipefail

example=$(basename "$(cd "$(dirname "$0")" && pwd)")
cd "$(dirname "$0")/../.."
mesh=$example
keep=no

while (($#)); do
    case $1 in
        --keep) keep=yes ;;
        --name) mesh=${2:?--name wants a name}; shift ;;
        *)
            echo "usage: examples/$example/run [--keep] [--name MESH]"
            echo "  --keep  leave the mesh running at the end"
            echo "  --name  call the mesh otherwise than $example"
            [[ $1 == --help || $1 == -h ]] && exit
            exit 2
            ;;
    esac
    shift
done

# The commands and the Python of this checkout.
export PATH=$PWD/.venv/bin:$PATH PYTHONPATH=$PWD

if ((EUID)); then
    echo "examples/$example/run makes network namespaces and loads eBPF programs: run it as root" >&2
    exit 1
elif ! [[ -x .venv/bin/sluice ]]; then
    echo "there is no .venv/bin/sluice: run \`make setup\` first" >&2
    exit 1
elif [[ -e /var/lib/sluice/$mesh || -e /run/sluice/$mesh ]]; then
    echo "a mesh called $mesh is here already: end it with \`sluice down --name $mesh --purge\`, or choose --name" >&2
    exit 1
fi

say() { printf '\n# %s\n' "$@"; }

# Shows a command line and runs it.
run() {
    printf '$ %s\n' "$*"
    eval "$*"
}

# Also called by a signal while it begins, for a command that was interrupted ends the script by itself, too.
finish() {
    local status=${1:-$?}
    trap '' INT TERM
    trap - EXIT
    if [[ $keep == yes && $status == 0 ]]; then
        say "The mesh stays: \`sluice status --name $mesh\` looks at it, \`sluice down --name $mesh --purge\` ends it."
    else
        ((status == 0)) || say "stopped ($status)"
        run "sluice down --name $mesh --purge"
    fi
    exit "$status"
}
trap finish EXIT
trap 'finish 130' INT TERM

# In a session of its own: half a mesh, after Ctrl-C, could not be found by `down`.
say "${intro:-A small shop: the pod catalog, and two versions of reviews behind one Service.}"
: "${manifest:=examples/_shared/shop.yaml}"
printf '$ %s\n' "sluice up --name $mesh --detach -f $manifest"
setsid --wait sluice up --name "$mesh" --detach -f "$manifest" >/dev/null
run "sluice status --name $mesh --wait"
