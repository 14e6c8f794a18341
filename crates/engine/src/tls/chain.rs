//! Which of a peer's certificates are worth a look.
//!
//! webpki tries every order of them that the names allow, up to 200,000 steps, and reads them all
//! anew in each: a handshake's 64 KiB of certificates that all bear one name take it a second. A
//! chain that is meant to be verified has one certificate of a name, or a few that differ in who
//! signed them.

use std::borrow::Cow;

use rustls_pki_types::CertificateDer;

use super::der;

/// So few may be of any kind: there are not many orders of them.
const FEW: usize = 6;
/// What is looked at of more than that.
const MOST: usize = 16;
const MOST_OF_ONE_NAME: usize = 3;

/// Those that may lead from the leaf to whom we trust; the nearest first, where there are many.
pub fn plausible<'c, 'a>(
    leaf: &CertificateDer<'a>,
    chain: &'c [CertificateDer<'a>],
) -> Cow<'c, [CertificateDer<'a>]> {
    if chain.len() <= FEW {
        return Cow::Borrowed(chain);
    }
    let known: Vec<_> = chain
        .iter()
        .filter_map(|der| Some((der, der::fields(der)?)))
        .collect();
    let mut names: Vec<&[u8]> = der::fields(leaf).map(|it| it.issuer).into_iter().collect();
    let mut found = Vec::new();
    let mut next = 0;
    while let Some(&name) = names.get(next) {
        next += 1;
        let of_name = known.iter().filter(|(_, fields)| fields.subject == name);
        for (der, fields) in of_name.take(MOST_OF_ONE_NAME) {
            if found.len() == MOST {
                return found.into();
            }
            found.push((*der).clone());
            if !names.contains(&fields.issuer) {
                names.push(fields.issuer);
            }
        }
    }
    found.into()
}
