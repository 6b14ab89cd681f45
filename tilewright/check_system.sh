#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What the machine itself must have, before any Python of ours can run. The one list of it: make runs this before the
# set-up, and `tilewright doctor` shows it.
#
# usage: check_system.sh [--table]
#
# Without an argument: says in one line what is missing and how to install it, and ends with 1; silent if all is there.
# With --table: one line for each requirement, fields separated by tabs: name, what was found (empty: missing), what is
# needed, command that installs it.
#
# PYTHON names the interpreter (default: python3).

set -u

python=${PYTHON:-python3}
oldest=3.11
mode=${1:-}
lacking=
packages=
sudo="sudo "
[ "$(id -u)" = 0 ] && sudo=
tab=$(printf '\t')

# require NAME FOUND NEEDED PACKAGE...
require() {
    name=$1 found=$2 needed=$3
    shift 3
    if [ "$mode" = --table ]; then
        printf '%s\n' "$name$tab$found$tab$needed$tab${sudo}apt-get install $*"
    elif [ -z "$found" ]; then
        lacking="$lacking${lacking:+, }$needed"
        packages="$packages $*"
    fi
}

# What a command prints, or nothing if it is not there.
ask() {
    command -v "$1" >/dev/null 2>&1 && "$@" 2>/dev/null
}

python_version=$(ask "$python" -c 'import platform; print(platform.python_version())' 2>/dev/null)
# A name like python3.12 has packages of that name; any other command gets the distribution's own.
case $python in
    python3.[0-9]*) family=$python ;;
    *) family=python3 ;;
esac

if [ -n "$python_version" ] &&
    ! "$python" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$oldest'.split('.'))))" 2>/dev/null; then
    if [ "$mode" != --table ]; then
        echo "tilewright needs Python $oldest or newer, but $python is $python_version:" \
            "${sudo}apt-get install python$oldest python$oldest-venv, then run make with PYTHON=python$oldest" >&2
        exit 1
    fi
    require python "" "Python $oldest or newer (is $python_version)" "python$oldest" "python$oldest-venv"
else
    require python "$python_version" "Python $oldest or newer" "$family"
fi
require venv "$(ask "$python" -c 'import ensurepip, venv; print("yes")')" "Python's venv" "$family-venv"
require g++ "$(ask g++ -dumpfullversion)" "g++" g++
require make "$(ask make --version | sed -n '1s/[^0-9]*//p')" "make" make
require perl "$(ask perl -e 'printf "%vd", $^V')" "perl" perl

if [ -n "$packages" ]; then
    echo "tilewright needs $lacking: ${sudo}apt-get install$packages" >&2
    exit 1
fi
