//! The client by itself, for the black-box tests: no daemon is started.

fn main() {
    let args = std::env::args().skip(1).collect();
    let code = wharf_cli::main(args, &|| {
        Err(std::io::Error::other("this client starts no daemon"))
    });
    std::process::exit(code);
}
