//! Identity from a client certificate: the common name is the user, organisations are the groups.

use x509_parser::parse_x509_certificate;

use super::{AUTHENTICATED, User};

/// The user that a verified certificate names.
pub fn user(der: &[u8]) -> Option<User> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .map(str::to_owned)
        .collect();
    groups.push(AUTHENTICATED.to_owned());
    (!name.is_empty()).then(|| User {
        name,
        groups,
        ..User::default()
    })
}
