//! What must not be read from the log: variables are sealed before a command is made from them, tokens are kept as hashes.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use plfm_core::digest::Digest;
use plfm_core::ids::InstanceId;
use plfm_core::manifest::Manifest;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::ServerError;

/// Values of variables, by process type and name.
pub type Vars = BTreeMap<String, BTreeMap<String, String>>;

/// The cluster's key, 32 random bytes in a file of mode 0600; every other key is derived from it.
pub struct Vault {
    seal: LessSafeKey,
    hash: hmac::Key,
    sandbox: hmac::Key,
    random: SystemRandom,
}

impl Vault {
    pub fn open(dir: &Path) -> Result<Self, ServerError> {
        let file = dir.join("cluster.key");
        let random = SystemRandom::new();
        if !file.exists() {
            write_private(&file, &bytes::<32>(&random))?;
        }
        let master = std::fs::read(&file).map_err(ServerError::file(&file))?;
        let seal = UnboundKey::new(&AES_256_GCM, &derive(&master, b"plfm vars v1")).expect("32 bytes are a key");
        let hash = hmac::Key::new(hmac::HMAC_SHA256, &derive(&master, b"plfm keyed hash v1"));
        let sandbox = hmac::Key::new(hmac::HMAC_SHA256, &derive(&master, b"plfm sandbox token v1"));
        Ok(Self { seal: LessSafeKey::new(seal), hash, sandbox, random })
    }

    /// Takes the values out of a manifest and leaves keyed hashes: equal values stay equal, none can be guessed.
    pub fn redact(&self, manifest: &mut Manifest) -> Vars {
        let merged = |name: &String| Some((name.clone(), manifest.merged(name)?.env));
        let vars = manifest.processes.keys().filter_map(merged).collect();
        let settings = manifest.processes.values_mut().map(|process| &mut process.settings);
        for settings in settings.chain([&mut manifest.env]) {
            settings.vars.values_mut().for_each(|value| *value = self.keyed_hash(value));
        }
        vars
    }

    fn keyed_hash(&self, value: &str) -> String {
        let tag = hmac::sign(&self.hash, value.as_bytes());
        let hex = tag.as_ref()[..16].iter().map(|byte| format!("{byte:02x}"));
        format!("hmac:{}", hex.collect::<String>())
    }

    /// What opens a sandbox's guest daemon: derived, so that nothing has to be kept, and the same for its whole life.
    pub fn sandbox_token(&self, sandbox: InstanceId) -> String {
        let tag = hmac::sign(&self.sandbox, sandbox.to_string().as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn opens_sandbox(&self, sandbox: InstanceId, token: &str) -> bool {
        let bytes = (0..token.len()).step_by(2).map(|at| u8::from_str_radix(token.get(at..at + 2)?, 16).ok());
        let tag: Option<Vec<u8>> = bytes.collect();
        tag.is_some_and(|tag| hmac::verify(&self.sandbox, sandbox.to_string().as_bytes(), &tag).is_ok())
    }

    pub fn seal(&self, vars: &Vars) -> Vec<u8> {
        let nonce = bytes::<NONCE_LEN>(&self.random);
        let mut sealed = serde_json::to_vec(vars).expect("maps of strings become JSON");
        let once = Nonce::assume_unique_for_key(nonce);
        self.seal.seal_in_place_append_tag(once, Aad::empty(), &mut sealed).expect("vars are far below 64 GiB");
        [&nonce[..], &sealed].concat()
    }

    /// None if it was not sealed by this cluster.
    pub fn unseal(&self, blob: &[u8]) -> Option<Vars> {
        let (nonce, sealed) = blob.split_at_checked(NONCE_LEN)?;
        let mut plain = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        serde_json::from_slice(self.seal.open_in_place(nonce, Aad::empty(), &mut plain).ok()?).ok()
    }
}

/// `prefix` and 32 random bytes; what is kept of it is [`token_hash`].
pub fn new_token(prefix: &str) -> String {
    let hex = bytes::<32>(&SystemRandom::new()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{prefix}{hex}")
}

/// As E2B's clients expect theirs (W-URL: `e2b_` and hexadecimal digits).
pub fn new_key() -> String {
    let hex = bytes::<20>(&SystemRandom::new()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("e2b_{hex}")
}

pub fn token_hash(token: &str) -> Digest {
    Digest::of(token.as_bytes())
}

/// A new file that only its owner can read.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), ServerError> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(ServerError::file(path))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(ServerError::file(path))
}

fn bytes<const N: usize>(random: &SystemRandom) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
    bytes
}

fn derive(master: &[u8], purpose: &'static [u8]) -> [u8; 32] {
    let mut key = [0; 32];
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"plfm").extract(master);
    extracted
        .expand(&[purpose], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key))
        .expect("one block of output is always there");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
        schema_version = "v1"
        [env.vars]
        SHARED = "hunter2"
        [processes.web]
        resources.memory = "64Mi"
        vars = { OWN = "hunter2", OTHER = "correct horse" }
    "#;

    #[test]
    fn a_redacted_manifest_holds_no_value_and_the_blob_gives_them_back() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path()).unwrap();
        let mut manifest = Manifest::parse(MANIFEST.as_bytes()).unwrap();
        let vars = vault.redact(&mut manifest);

        let json = String::from_utf8(manifest.canonical_json()).unwrap();
        assert!(!json.contains("hunter2") && !json.contains("horse"), "{json}");
        let web = &manifest.processes["web"].settings.vars;
        assert_eq!(web["OWN"], manifest.env.vars["SHARED"], "equal values have equal hashes");
        assert_ne!(web["OWN"], web["OTHER"]);

        let blob = vault.seal(&vars);
        let reopened = Vault::open(dir.path()).unwrap();
        assert_eq!(reopened.unseal(&blob).unwrap()["web"]["OWN"], "hunter2");
        assert!((0..blob.len()).all(|cut| reopened.unseal(&blob[..cut]).is_none()), "no prefix opens");
        let other = tempfile::tempdir().unwrap();
        assert_eq!(Vault::open(other.path()).unwrap().unseal(&blob), None, "another cluster cannot read it");
    }
}
