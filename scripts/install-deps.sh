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
need /usr/sbin/mariadbd mariadb-server
need etcd etcd-server
need /sbin/ip iproute2 # network namespaces as hosts
need git git

if [ ${#missing[@]} -gt 0 ]; then
    echo "installing Debian packages: ${missing[*]}"
    run_as_root apt-get update -qq
    run_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
fi

# The S3 server of the tests. Go older than 1.21 (Debian 12 has 1.19) cannot fetch the toolchain that a program asks
# for, but it can fetch one as what it is for newer ones: a module.
gofakes3=v1.2.0
toolchain=go1.24.13
if ! command -v gofakes3 >/dev/null 2>&1 && [ ! -x "$HOME/go/bin/gofakes3" ]; then
    if ! command -v go >/dev/null 2>&1; then
        echo "installing the Debian package golang-go"
        run_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends golang-go >/dev/null
    fi
    go=go
    minor=$(go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    if [ "${minor:-0}" -lt 21 ]; then
        module="golang.org/toolchain@v0.0.1-$toolchain.$(go env GOOS)-$(go env GOARCH)"
        echo "fetching $module: $(go env GOVERSION) is too old for gofakes3"
        # Some 300 MB, for one build: it goes when the script ends. As a module it comes without the right to be run.
        toolchains=$(mktemp -d)
        trap 'rm -rf "$toolchains"' EXIT
        (cd / && GO111MODULE=on GOFLAGS=-modcacherw GOMODCACHE="$toolchains" go mod download "$module")
        go="$toolchains/$module/bin/go"
        chmod +x "$go" "$toolchains/$module"/pkg/tool/*/*
        export GOTOOLCHAIN=local
    fi
    echo "installing gofakes3 $gofakes3 into $HOME/go/bin"
    GOBIN="$HOME/go/bin" "$go" install "github.com/johannesboyne/gofakes3/cmd/gofakes3@$gofakes3"
fi

required=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
have=$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)
if [ -z "$have" ] || [ "$(printf '%s\n%s\n' "$required" "$have" | sort -V | head -n 1)" != "$required" ]; then
    if apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then
        echo "installing Rust: Debian package rustup, stable toolchain (needed: $required, here: ${have:-none})"
        run_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq rustup >/dev/null
        rustup default stable
    else
        echo "Rust $required or newer is needed (here: ${have:-none}): install it with rustup, then run this again" >&2
        exit 1
    fi
fi
