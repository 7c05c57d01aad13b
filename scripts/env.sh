# Source this file (bash or zsh) for a shell in which python, colcon, rt-panoptic and this package's
# ROS 2 nodes work:
#
#     source scripts/env.sh
#
# The first time it sets everything up under .environment/, later it only looks whether all is there.
# A ROS 2 installation that is sourced before is used. `source scripts/env.sh development` adds what
# the tests need. PANOPTIC_PYTHON=... names the Python to build on, instead of the first fitting one.

# Prints the path of the file that activates the environment. ROOT LEVEL
_panoptic_set_up() {
  local root="$1" level="$2" candidate
  if [ -n "${PANOPTIC_PYTHON:-}" ]; then
    set -- "$PANOPTIC_PYTHON"
  else
    # The interpreter of last time stays, whatever else comes to stand before it on the path.
    set -- "$(cat "$root/.environment/${ROS_DISTRO:-wheels}/interpreter" 2> /dev/null)" \
      python3 python3.12 python3.11 python3.10 python3.13
  fi
  for candidate in "$@"; do
    if [ -n "$candidate" ] && "$candidate" -c \
      'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' > /dev/null 2>&1; then
      "$candidate" "$root/scripts/environment/set_up.py" "$level"
      return
    fi
  done
  set -- "${PANOPTIC_PYTHON:-python3}"
  echo "rt_panoptic set-up: no Python 3.10 to 3.13 found ($1 is" \
    "$("$1" --version 2> /dev/null || echo not there)): install one (Debian, Ubuntu:" \
    "sudo apt install g++ python3 python3-dev python3-venv) or name it with PANOPTIC_PYTHON=/path." >&2
  return 1
}

_panoptic_file="${BASH_SOURCE[0]:-}"
[ -n "$_panoptic_file" ] || eval '_panoptic_file="${(%):-%x}"' # zsh
_panoptic_file="$(_panoptic_set_up \
  "$(cd "$(dirname "$(readlink -f "$_panoptic_file")")/.." && pwd -P)" "${1:-use}")" || return 1
. "$_panoptic_file"
unset _panoptic_file
unset -f _panoptic_set_up
