#!/bin/sh
# Runs every fuzz target below shared/*/fuzz for some seconds each and fails at the first that finds something.
# cargo-fuzz is installed where it is missing. Coverage instrumentation is unstable in rustc, hence
# RUSTC_BOOTSTRAP; without a sanitizer the stable toolchain is enough, and the product has no unsafe code.
set -eu
seconds=${1:-60}
cargo=${CARGO:-cargo}
cd "$(dirname "$0")/.."
command -v cargo-fuzz >/dev/null || "$cargo" install cargo-fuzz --locked
export RUSTC_BOOTSTRAP=1
for folder in shared/*/fuzz; do
    for target in $("$cargo" fuzz list --fuzz-dir "$folder"); do
        echo "== $folder: $target, $seconds s"
        # What is new goes to the first directory. Random bytes alone hardly pass the end of a Parquet file.
        corpus="$folder/corpus/$target" seeds="$folder/seeds/$target"
        mkdir -p "$corpus"
        [ -d "$seeds" ] || seeds=
        "$cargo" fuzz run --fuzz-dir "$folder" --sanitizer none "$target" "$corpus" ${seeds:+"$seeds"} -- \
            -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
    done
done
