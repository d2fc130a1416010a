//! The first container anybody runs: says that everything works.
#![forbid(unsafe_code)]

fn main() {
    println!(
        "\nHello from Wharf!\n\
         This message shows that your installation appears to be working correctly.\n\n\
         The client asked the daemon for this image, the daemon fetched it from a registry,\n\
         made a container of it and ran the program in it that prints these lines.\n\n\
         Something larger to try:\n $ wharf run -it busybox sh\n"
    );
}
