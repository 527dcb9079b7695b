# shellcheck shell=bash
# What every script here shares: where the repository is, how it speaks, how it fails. Sourced, never run.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
NAME="$(basename "$0")"
# shellcheck disable=SC2034 # read by the scripts that source this file
BIN="$ROOT/build/bin"

say() { printf '%s: %s\n' "$NAME" "$*" >&2; }

# die MESSAGE: the message says what is wrong and what to do about it.
die() {
  say "$*"
  exit 1
}

# need TOOL REMEDY: fails with the remedy when TOOL cannot be run.
need() { command -v "$1" >/dev/null 2>&1 || die "$1 was not found. $2"; }

need_go() { need go "Install Go 1.26 or newer (https://go.dev/dl) and put its bin folder on PATH."; }
need_cc() { need cc "Install a C compiler, for example: apt-get install gcc libc6-dev."; }

need_python() {
  need python3 "Install Python 3.8 or newer, for example: apt-get install python3 python3-pip python3-venv."
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' ||
    die "python3 is $(python3 --version 2>&1), 3.8 or newer is needed."
}


# sha256 FILE...: one digest over the contents, in the order given.
sha256() { cat -- "$@" | sha256sum | cut -d' ' -f1; }

# lock NAME: holds build/NAME.lock until this script ends, so that two runs never write the same files. Children
# that outlive the script must not inherit it: start them with 9>&-.
lock() {
  need flock "Install it, for example: apt-get install util-linux."
  mkdir -p "$ROOT/build"
  exec 9>"$ROOT/build/$1.lock"
  flock -n 9 || {
    say "another run holds build/$1.lock; waiting for it"
    flock 9
  }
}

# timed LABEL COMMAND...: runs the command and says how long it took. No `||` here: it would switch `set -e` off inside
# the command.
timed() {
  local label="$1" start=$SECONDS status
  shift
  say "$label ..."
  "$@"
  status=$?
  say "$label: $((SECONDS - start)) s"
  return "$status"
}
