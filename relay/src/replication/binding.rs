//! Channel binding `tls-server-end-point` (RFC 5929, section 4): a digest of the server's certificate, by the algorithm of
//! its signature, which the proof of a password includes. Who stands between the two has another certificate.

use sha2::{Digest, Sha256, Sha384, Sha512};

/// `1.2.840.113549.1.1.`, RSA of PKCS #1, before its last number.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];

/// `1.2.840.10045.4.`, ECDSA, before its last numbers.
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];

/// The digest of a certificate, in DER; none for a signature whose digest is not known here.
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = signature_algorithm(certificate)?;
    let kind = algorithm
        .strip_prefix(RSA)
        .map(|rest| match rest {
            // MD5 and SHA-1 count as SHA-256.
            [4 | 5 | 11] => 256,
            [12] => 384,
            [13] => 512,
            _ => 0,
        })
        .or_else(|| {
            algorithm.strip_prefix(ECDSA).map(|rest| match rest {
                [1] | [3, 2] => 256,
                [3, 3] => 384,
                [3, 4] => 512,
                _ => 0,
            })
        })?;
    match kind {
        256 => Some(Sha256::digest(certificate).to_vec()),
        384 => Some(Sha384::digest(certificate).to_vec()),
        512 => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// The object identifier in `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, … }` (RFC 5280, section 4.1).
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    let (parts, _) = element(SEQUENCE, certificate)?;
    let (_, parts) = element(SEQUENCE, parts)?;
    let (algorithm, _) = element(SEQUENCE, parts)?;
    element(OBJECT_IDENTIFIER, algorithm).map(|(identifier, _)| identifier)
}

/// The content of the first element, which must have this tag, and what is behind it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[first, length], rest) = bytes.split_first_chunk::<2>()?;
    if first != tag {
        return None;
    }
    if length < 0x80 {
        return rest.split_at_checked(usize::from(length));
    }
    let (length, rest) =
        rest.split_at_checked(usize::from(length & 0x7f)).filter(|(length, _)| length.len() <= 4)?;
    let length = length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate as short as can be: what is signed, how, and a signature.
    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, content: &[u8]| {
            [&[tag, 0x81, u8::try_from(content.len()).expect("short")], content].concat()
        };
        let algorithm = wrap(0x30, &wrap(0x06, algorithm));
        wrap(0x30, &[wrap(0x30, b"to be signed"), algorithm, wrap(0x03, b"signature")].concat())
    }

    #[test]
    fn the_digest_is_that_of_the_signature_and_never_weaker_than_sha_256() {
        let length = |prefix: &[u8], rest: &[u8]| {
            end_point(&certificate(&[prefix, rest].concat())).map_or(0, |digest| digest.len() * 8)
        };
        for (rest, bits) in
            [(&[4][..], 256), (&[5], 256), (&[11], 256), (&[12], 384), (&[13], 512), (&[10], 0)]
        {
            assert_eq!(length(RSA, rest), bits, "{rest:?}");
        }
        for (rest, bits) in [(&[1][..], 256), (&[3, 2], 256), (&[3, 3], 384), (&[3, 4], 512), (&[3, 1], 0)] {
            assert_eq!(length(ECDSA, rest), bits, "{rest:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_none() {
        let whole = certificate(&[RSA, &[11]].concat());
        for length in 0..whole.len() {
            let _ = end_point(&whole[..length]);
        }
        assert_eq!(end_point(&[]), None);
        assert_eq!(end_point(&[0x30, 0x85, 1, 1, 1, 1, 1]), None);
        assert_eq!(end_point(&[0x31, 0]), None);
    }
}
