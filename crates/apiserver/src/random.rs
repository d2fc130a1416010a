//! Random bytes from the kernel: names, identifiers, keys.

/// Random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    let mut filled = 0;
    while filled < N {
        // The kernel's generator fails only before it is seeded, early in the boot.
        if let Ok(n) =
            rustix::rand::getrandom(&mut out[filled..], rustix::rand::GetRandomFlags::empty())
        {
            filled += n;
        }
    }
    out
}

/// A random number.
pub fn number() -> u32 {
    u32::from_le_bytes(bytes())
}

/// A random UUID.
pub fn uuid() -> String {
    let mut b: [u8; 16] = bytes();
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    let hex = hex::encode(b);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// Letters of generated names: no vowels, nothing that looks like something else.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Random letters for the end of a name.
pub fn suffix(length: usize) -> String {
    let letter = |_| {
        let place = number() as usize % ALPHABET.len();
        char::from(ALPHABET[place])
    };
    (0..length).map(letter).collect()
}
