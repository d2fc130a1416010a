//! Takes memory one megabyte at a time, up to fifty, then sleeps: shows what a memory limit does.
#![forbid(unsafe_code)]

const MIB: usize = 1024 * 1024;
const STEPS: usize = 50;

fn main() {
    let mut held: Vec<Vec<u8>> = Vec::with_capacity(STEPS);
    for step in 1..=STEPS {
        // Written, not just reserved: an untouched page costs nothing.
        held.push(vec![step as u8; MIB]);
        println!("{step} MB");
    }
    println!("holding {} MB", held.len());
    loop {
        std::thread::park();
    }
}
