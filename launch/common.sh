# Sourced by the scripts beside it: options, messages, and `run`, which --dry_run makes print.
#
#   . launch/common.sh
#   opt+=([zone]="" [spot]=no)        options and their defaults; one whose default is no is a switch
#   trains=yes                        arguments of jaxreid train come after --, and get into `train`
#   parse "$@"

set -euo pipefail
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "bash is $BASH_VERSION; 4.4 or newer is needed (on a Mac: brew install bash)." >&2
  exit 2
fi
# shellcheck disable=SC2034 # the scripts use it
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
declare -A opt=([dry_run]=no)
trains=no
train=()

say() { echo "$(basename "$0"): $*" >&2; }

# What was given cannot be used.
refuse() {
  say "$*"
  exit 2
}

# The comment at the head of the script.
help() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

parse() {
  local name
  while [ $# -gt 0 ]; do
    case "$1" in
      --help | -h)
        help
        exit 0
        ;;
      --)
        if [ "$trains" = yes ]; then
          shift
          train=("$@")
          return
        fi
        ;;
    esac
    name="${1%%=*}"
    name="${name#--}"
    if [ "${1#--}" = "$1" ] || ! [[ "$name" =~ ^[a-z_]+$ ]] || [ -z "${opt[$name]+known}" ]; then
      refuse "'$1' is no option of this script. It takes $(options). --help says more."
    fi
    if [ "${opt[$name]}" = no ] || [ "${opt[$name]}" = yes ]; then
      [ "$1" = "--$name" ] || refuse "--$name is a switch: it takes no value."
      opt[$name]=yes
    elif [ "$1" != "--$name" ]; then
      opt[$name]="${1#*=}"
    else
      [ $# -ge 2 ] || refuse "--$name takes a value."
      opt[$name]="$2"
      shift
    fi
    shift
  done
}

options() {
  local names
  names="$(printf -- '--%s\n' "${!opt[@]}" | sort | paste -sd' ' -)"
  [ "$trains" = no ] || names+=" and, after --, the arguments of jaxreid train"
  echo "$names"
}

is_dry() { [ "${opt[dry_run]}" = yes ]; }

# required NAME ACCEPTED EXAMPLE: in a dry run the name in capitals stands for what is missing.
required() {
  [ -z "${opt[$1]}" ] || return 0
  is_dry || refuse "--$1 is missing. It takes $2, for example --$1 $3."
  opt[$1]="${1^^}"
}

# whole NAME LEAST: the option must be a whole number.
whole() {
  if ! [[ "${opt[$1]}" =~ ^(0|[1-9][0-9]{0,5})$ ]] || ((opt[$1] < $2)); then
    refuse "--$1 is '${opt[$1]}'; it takes a whole number from $2, for example --$1 $(($2 + 2))."
  fi
}

# needs_training EXAMPLE_WORKDIR: the arguments of jaxreid train must have been given.
needs_training() {
  local name word
  if is_dry && [ ${#train[@]} -eq 0 ]; then
    train=(--config configs/ssan.py:cuhk_pedes --workdir WORKDIR)
  fi
  for name in --config --workdir; do
    # No pipe into grep -q: it leaves at the first match, and pipefail would take that for a failure.
    for word in "${train[@]}"; do
      [[ "$word" != "$name" && "$word" != "$name="* ]] || continue 2
    done
    refuse "$name is missing among the arguments of jaxreid train, which come after --, for" \
      "example: bash launch/$(basename "$0") ... -- --config configs/ssan.py:cuhk_pedes --workdir $1"
  done
}

# Words as a shell takes them.
quoted() {
  local word line=""
  for word in "$@"; do
    [[ "$word" =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word="${word@Q}"
    line+="${line:+ }$word"
  done
  printf '%s\n' "$line"
}

run() {
  if is_dry; then quoted "$@"; else "$@"; fi
}

# What an exit code of jaxreid train means, by jaxreid/exit_codes.py: finished, explained (2 is
# argparse's), lost (another process of the run is gone), stopped, interrupted (by Ctrl-C) or crashed.
kind_of() {
  case "$1" in
    0) echo finished ;;
    1 | 2) echo explained ;;
    69) echo lost ;;
    75) echo stopped ;;
    130) echo interrupted ;;
    *) echo crashed ;;
  esac
}

name_of() {
  local more=""
  if (($1 > 128)); then more="$(kill -l "$1" 2>/dev/null || true)"; fi
  more="${more:+signal $more}"
  if (($1 == 69)); then more="another process was lost"; fi
  if (($1 == 130)); then more="Ctrl-C"; fi
  echo "code $1${more:+ ($more)}"
}

# What is said of an error that jaxreid has explained, by code.
say_explained() {
  say "code $1: an error that jaxreid explains above; to start again would change nothing."
}

# What is said where somebody has typed Ctrl-C, or sent SIGINT, to the training itself.
say_interrupted() {
  say "code 130: stopped by Ctrl-C, and everything is saved. The same command goes on."
}
