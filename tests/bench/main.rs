//! What the promise costs. Placeholder until the parts it measures stand.
fn main() {}
