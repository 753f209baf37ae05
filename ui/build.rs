//! Makes `dist`, so that it exists before it is embedded.

fn main() {
    std::fs::create_dir_all("dist").expect("ui/ is writable");
}
