//! What a deploy takes beside a bare `docker run`.
fn main() {}
