//! The `thunderhead` binary; see the library for everything it does.

fn main() -> std::process::ExitCode {
    thunderhead_coordinator::cli::main()
}
