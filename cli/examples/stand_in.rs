//! The stand-in agent of the tests as a program, for trying the action by
//! hand: `cargo run -p cutover --example stand_in -- 127.0.0.1:9000`.

#[path = "../tests/support/mod.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "the support of tests, which use all of it"
)]
mod support;

#[expect(clippy::print_stdout, reason = "the person must know where it listens")]
fn main() {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let agent = support::Agent::at(address.parse().expect("an address like 127.0.0.1:9000"));
    println!("{}", agent.url());
    loop {
        std::thread::park();
    }
}
