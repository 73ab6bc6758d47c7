#!/usr/bin/env bash
# Installs what the build, the demo and the tests need and this machine lacks: Debian packages, as root
# or through sudo, and one Go program. Prints what it does; does nothing when everything is there.
set -euo pipefail

run_as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

missing=()
need() { # command-or-file package
    if ! command -v "$1" >/dev/null 2>&1 && ! compgen -G "$1" >/dev/null; then missing+=("$2"); fi
}
need cc build-essential
need c++ build-essential
need '/usr/lib/llvm-*/lib/libclang*.so*' libclang-dev
need mariadb mariadb-client
need etcd etcd-server
need git git
need etcd etcd-server

if [ ${#missing[@]} -gt 0 ]; then
    echo "installing Debian packages: ${missing[*]}"
    run_as_root apt-get update -qq
    run_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
fi

# The S3 server of the tests. Debian's Go would be too old for it on older releases; any Go 1.21 fetches what it needs.
gofakes3=v1.2.0
if ! command -v gofakes3 >/dev/null 2>&1 && [ ! -x "$HOME/go/bin/gofakes3" ]; then
    if ! command -v go >/dev/null 2>&1; then
        run_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq golang-go >/dev/null
    fi
    echo "installing gofakes3 $gofakes3 into $HOME/go/bin"
    GOBIN="$HOME/go/bin" go install "github.com/johannesboyne/gofakes3/cmd/gofakes3@$gofakes3"
fi

required=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
have=$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)
if [ -z "$have" ] || [ "$(printf '%s\n%s\n' "$required" "$have" | sort -V | head -n 1)" != "$required" ]; then
    if apt-cache show rustup >/dev/null 2>&1; then
        echo "installing Rust: Debian package rustup, stable toolchain (needed: $required, here: ${have:-none})"
        run_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq rustup >/dev/null
        rustup default stable
    else
        echo "Rust $required or newer is needed (here: ${have:-none}): install it with rustup, then run this again" >&2
        exit 1
    fi
fi
