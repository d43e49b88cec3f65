//! An authority that issues certificates into files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tempfile::TempDir;

/// An authority, and the directory of what it issued.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    /// A new one: nobody else vouches for it.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("kafkeep-ca-")
            .tempdir()
            .unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            directory,
        }
    }

    /// Its own certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// Where something issued lies: `NAME.pem`, `NAME.key`, and both in `NAME.keystore`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Issues a certificate for these hosts that ends with a year, in place of an older one of this name.
    pub fn issue(&self, name: &str, hosts: &[&str], year: i32) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let ca = fs::read_to_string(self.ca_file()).unwrap();
        let key = key.serialize_pem();
        fs::write(self.file(&format!("{name}.pem")), &certificate).unwrap();
        let key_file = self.file(&format!("{name}.key"));
        fs::write(&key_file, &key).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        let keystore = format!("{key}{certificate}{ca}");
        fs::write(self.file(&format!("{name}.keystore")), keystore).unwrap();
    }
}
