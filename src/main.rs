//! The `dos-cluster` program.

fn main() -> std::process::ExitCode {
    dos_cluster::cli::main()
}
