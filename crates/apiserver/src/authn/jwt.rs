//! JSON web tokens with ECDSA on P-256 (`ES256`): made, read, and the public key as a JSON web key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A token longer than this is refused unread.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// A key that signs tokens.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: Vec<u8>,
    /// The key's identifier in tokens' heads.
    pub id: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish()
    }
}

impl SigningKey {
    /// Reads a key in PKCS #8.
    ///
    /// # Errors
    /// It is no key for P-256.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, String> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random)
            .map_err(|e| e.to_string())?;
        let public = pair.public_key().as_ref().to_vec();
        let id = BASE64.encode(Sha256::digest(&public));
        Ok(Self { pair, public, id })
    }

    /// Signs claims.
    ///
    /// # Errors
    /// The kernel gives no random numbers.
    pub fn sign(&self, claims: &Value) -> Result<String, String> {
        let head = json!({"alg": "ES256", "kid": self.id}).to_string();
        let mut token = BASE64.encode(head);
        token.push('.');
        BASE64.encode_string(claims.to_string(), &mut token);
        let signature = self
            .pair
            .sign(&SystemRandom::new(), token.as_bytes())
            .map_err(|e| e.to_string())?;
        token.push('.');
        BASE64.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }

    /// The claims of a token that this key signed.
    ///
    /// # Errors
    /// What is wrong with the token.
    pub fn verify(&self, token: &str) -> Result<Value, String> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err("the token is too long".to_owned());
        }
        let (signed, signature) = token.rsplit_once('.').ok_or("not a token")?;
        let (head, claims) = signed.split_once('.').ok_or("not a token")?;
        let decode = |part: &str| BASE64.decode(part).map_err(|e| e.to_string());
        let head: Value = serde_json::from_slice(&decode(head)?).map_err(|e| e.to_string())?;
        // The algorithm is ours to choose, never the token's.
        if head["alg"] != "ES256" {
            return Err("the token's algorithm is not ES256".to_owned());
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.public)
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| "the token's signature is not this server's".to_owned())?;
        serde_json::from_slice(&decode(claims)?).map_err(|e| e.to_string())
    }

    /// The public key as a JSON web key.
    pub fn jwk(&self) -> Value {
        // Uncompressed point: 4, x, y.
        let (x, y) = (
            self.public.get(1..33).unwrap_or_default(),
            self.public.get(33..65).unwrap_or_default(),
        );
        json!({"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": BASE64.encode(x), "y": BASE64.encode(y)})
    }
}
