//! For tests only: sandboxes (own mount and network namespace, own data folder), test images made from Debian packages,
//! fault injection. Knows no code path of the product: it drives binaries.
#![forbid(unsafe_code)]
