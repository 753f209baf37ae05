//! The program as the tests start it: the same library, built beside the tests.
fn main() -> std::process::ExitCode {
    outlast::main()
}
