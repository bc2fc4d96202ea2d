//! From options to the library's client of each service.

use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{Certificate, ClientOptions, RetryConfig};
use secrecy::ExposeSecret;

use super::profile::Profile;
use super::spoken::Signer;
use super::wire::Connector;
use super::{Backend, Credentials, ObjectPlace, Service};
use crate::{AddressRule, Error, ErrorKind, Result};

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What the library takes when nobody says one.
const DEFAULT_REGION: &str = "us-east-1";
/// The same for the address of Google's service.
const GOOGLE: &str = "https://storage.googleapis.com";

/// A client of a place, and what it takes to make requests of one's own.
pub(super) struct Parts {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) signer: Signer,
    pub(super) options: ClientOptions,
    /// The PEM certificates that the options have too.
    pub(super) trusted: Vec<Vec<u8>>,
}

/// Builds the client of a place.
pub(super) fn backend(place: &ObjectPlace) -> Result<Arc<dyn Backend>> {
    let fail = |why: String| Error::new(ErrorKind::Invalid, "open", "", &place.to_string(), why);
    parts(place).map(|parts| parts.backend).map_err(fail)
}

pub(super) fn parts(place: &ObjectPlace) -> Result<Parts, String> {
    match place.service {
        Service::S3 => s3(place),
        Service::Azure => azure(place),
        Service::Google => google(place),
    }
}

fn text(error: object_store::Error) -> String {
    error.to_string()
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether a switch in the environment is on.
fn is_yes(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on" | "y")
}

/// Retrying is ours alone.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// The library's options, and the PEM certificates that are trusted by them.
fn client(place: &ObjectPlace, allow_http: bool) -> Result<(ClientOptions, Vec<Vec<u8>>), String> {
    let mut options = ClientOptions::new()
        .with_allow_http(allow_http)
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_pool_idle_timeout(POOL_IDLE_TIMEOUT);
    let mut trusted = Vec::new();
    if let Some(pem) = &place.options.ca_pem {
        trusted.push(("its CA bundle".to_owned(), pem.clone().into_bytes()));
    }
    if let Some(file) = &place.options.ca_file {
        let shown = file.display().to_string();
        let pem = fs::read(file).map_err(|e| format!("cannot read the certificates in {shown}: {e}"))?;
        trusted.push((shown, pem));
    }
    for (shown, pem) in &trusted {
        let certificates =
            Certificate::from_pem_bundle(pem).map_err(|_| format!("{shown} holds no PEM certificates"))?;
        if certificates.is_empty() {
            return Err(format!("{shown} holds no PEM certificates"));
        }
        for certificate in certificates {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok((options, trusted.into_iter().map(|(_, pem)| pem).collect()))
}

fn rule(place: &ObjectPlace) -> Option<&AddressRule> {
    place.options.addresses.as_deref()
}

/// Whether an address may be used: with TLS, or on this machine, or where that was asked for; and where connections may go.
fn check_endpoint(endpoint: &str, allowed: bool, rule: Option<&AddressRule>) -> Result<bool, String> {
    if let Some(rule) = rule {
        rule.check_url(endpoint).map_err(|refused| refused.to_string())?;
    }
    if endpoint.starts_with("https://") {
        return Ok(false);
    }
    let Some(rest) = endpoint.strip_prefix("http://") else {
        return Err(format!("the endpoint '{}' is no https:// address", endpoint.escape_debug()));
    };
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let here = host == "localhost"
        || host == "[::1]"
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
    if here || allowed {
        return Ok(true);
    }
    Err("its endpoint has no TLS: use https://, or allow it with allow_http=true".to_owned())
}

fn s3(place: &ObjectPlace) -> Result<Parts, String> {
    let options = &place.options;
    let mut builder = match &options.credentials {
        Credentials::AccessKey { id, secret, session_token } => {
            // They become headers.
            let fits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
            if !fits(id) || session_token.as_ref().is_some_and(|token| !fits(token.expose_secret())) {
                let why = "its access key id or session token holds blanks or letters beyond ASCII; is it copied whole?";
                return Err(why.to_owned());
            }
            let builder =
                AmazonS3Builder::new().with_access_key_id(id).with_secret_access_key(secret.expose_secret());
            match session_token {
                Some(token) => builder.with_token(token.expose_secret()),
                None => builder,
            }
        }
        Credentials::Ambient => ambient_s3()?,
        _ => return Err("these credentials are of another service; S3 takes an access key".to_owned()),
    };
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    let from_environment = || {
        let ambient = matches!(options.credentials, Credentials::Ambient);
        ambient.then(|| env("AWS_ENDPOINT_URL_S3").or_else(|| env("AWS_ENDPOINT_URL"))).flatten()
    };
    let mut allow_http = false;
    if let Some(endpoint) = options.endpoint.clone().or_else(from_environment) {
        allow_http = check_endpoint(
            &endpoint,
            options.allow_http || env("AWS_ALLOW_HTTP").is_some_and(|value| is_yes(&value)),
            rule(place),
        )?;
        let endpoint = match (options.path_style, endpoint.split_once("://")) {
            (Some(false), Some((scheme, host))) => format!("{scheme}://{}.{host}", place.bucket),
            _ => endpoint,
        };
        builder = builder.with_endpoint(&endpoint).with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
    let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let (client, trusted) = client(place, allow_http)?;
    let store = builder
        .with_bucket_name(&place.bucket)
        .with_virtual_hosted_style_request(options.path_style == Some(false))
        .with_checksum_algorithm(Checksum::SHA256)
        .with_disable_bulk_delete(true)
        .with_retry(no_retries())
        .with_client_options(client.clone())
        .with_http_connector(Connector::new(place, trusted.clone()))
        .build()
        .map_err(text)?;
    let signer = Signer::S3 { store: store.clone(), region, base: OnceLock::new() };
    Ok(Parts { backend: Arc::new(store), signer, options: client, trusted })
}

/// In the order of AWS's own tools: environment, web identity, profile, the container's or machine's role.
fn ambient_s3() -> Result<AmazonS3Builder, String> {
    let mut builder = AmazonS3Builder::from_env();
    if env("AWS_ACCESS_KEY_ID").is_some() || env("AWS_WEB_IDENTITY_TOKEN_FILE").is_some() {
        return Ok(builder);
    }
    let profile = Profile::chosen(&env)?;
    if let (Some(id), Some(secret)) = (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key"))
    {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        if let Some(token) = profile.get("aws_session_token") {
            builder = builder.with_token(token);
        }
    }
    if let (Some(region), None, None) = (profile.get("region"), env("AWS_REGION"), env("AWS_DEFAULT_REGION"))
    {
        builder = builder.with_region(region);
    }
    Ok(builder)
}

fn azure(place: &ObjectPlace) -> Result<Parts, String> {
    let options = &place.options;
    let mut builder = match &options.credentials {
        Credentials::AccountKey { account, key } => {
            MicrosoftAzureBuilder::new().with_account(account).with_access_key(key.expose_secret())
        }
        Credentials::ManagedIdentity { account, client_id } => {
            let builder = MicrosoftAzureBuilder::new().with_account(account);
            match client_id {
                Some(client_id) => builder.with_client_id(client_id),
                None => builder,
            }
        }
        Credentials::Ambient => {
            let mut builder = MicrosoftAzureBuilder::from_env();
            // The names of other tools.
            if let Some(account) = env("AZURE_ACCOUNT_NAME") {
                builder = builder.with_account(account);
            }
            if let Some(key) = env("AZURE_ACCOUNT_KEY") {
                builder = builder.with_access_key(key);
            }
            if let Some(sas) = env("AZURE_ACCOUNT_SAS") {
                builder = builder.with_config(AzureConfigKey::SasKey, sas.trim_start_matches('?'));
            }
            builder
        }
        _ => return Err("these credentials are of another service; Azure takes an account key".to_owned()),
    };
    let mut allow_http = false;
    if let Some(endpoint) = &options.endpoint {
        allow_http = check_endpoint(endpoint, options.allow_http, rule(place))?;
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    let (account, address) = azure_address(&builder)?;
    let (client, trusted) = client(place, allow_http)?;
    let store = builder
        .with_container_name(&place.bucket)
        .with_retry(no_retries())
        .with_client_options(client.clone())
        .with_http_connector(Connector::new(place, trusted.clone()))
        .build()
        .map_err(text)?;
    let base = format!("{}/{}/", address.trim_end_matches('/'), place.bucket);
    let signer = Signer::Azure { credentials: Arc::clone(store.credentials()), account, base };
    Ok(Parts { backend: Arc::new(store), signer, options: client, trusted })
}

/// The account, and where it is, as the library finds them.
fn azure_address(builder: &MicrosoftAzureBuilder) -> Result<(String, String), String> {
    let told = |key| builder.get_config_value(&key);
    let is_on = |key| told(key).is_some_and(|value| is_yes(&value));
    let account = told(AzureConfigKey::AccountName);
    if is_on(AzureConfigKey::UseEmulator) {
        let account = account.unwrap_or_else(|| "devstoreaccount1".to_owned());
        let server = env("AZURITE_BLOB_STORAGE_URL").unwrap_or_else(|| "http://127.0.0.1:10000".to_owned());
        let address = format!("{}/{account}", server.trim_end_matches('/'));
        return Ok((account, address));
    }
    let account = account.ok_or("no storage account is named; name it, or set AZURE_ACCOUNT_NAME")?;
    // It becomes a part of an address.
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if account.is_empty() || !account.chars().all(fits) {
        return Err(format!("'{}' is no storage account: letters and digits", account.escape_debug()));
    }
    let is_fabric = is_on(AzureConfigKey::UseFabricEndpoint);
    let cloud = if is_fabric { "fabric.microsoft.com" } else { "core.windows.net" };
    let own = || format!("https://{account}.blob.{cloud}");
    let address = told(AzureConfigKey::Endpoint).unwrap_or_else(own);
    Ok((account, address))
}

fn google(place: &ObjectPlace) -> Result<Parts, String> {
    let options = &place.options;
    let mut builder = match &options.credentials {
        Credentials::ServiceAccount(json) => {
            GoogleCloudStorageBuilder::new().with_service_account_key(json.expose_secret())
        }
        Credentials::Ambient => {
            let builder = GoogleCloudStorageBuilder::from_env();
            match env("GOOGLE_APPLICATION_CREDENTIALS") {
                Some(file) => builder.with_application_credentials(file),
                None => builder,
            }
        }
        _ => {
            return Err("these credentials are of another service; Google takes a service account".to_owned());
        }
    };
    let mut allow_http = false;
    if let Some(endpoint) = &options.endpoint {
        allow_http = check_endpoint(endpoint, options.allow_http, rule(place))?;
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    let address = builder.get_config_value(&GoogleConfigKey::BaseUrl);
    let address = address.unwrap_or_else(|| GOOGLE.to_owned());
    let (client, trusted) = client(place, allow_http)?;
    let store = builder
        .with_bucket_name(&place.bucket)
        .with_retry(no_retries())
        .with_client_options(client.clone())
        .with_http_connector(Connector::new(place, trusted.clone()))
        .build()
        .map_err(text)?;
    let base = format!("{}/{}/", address.trim_end_matches('/'), place.bucket);
    let signer = Signer::Google { credentials: Arc::clone(store.credentials()), base };
    Ok(Parts { backend: Arc::new(store), signer, options: client, trusted })
}

#[cfg(test)]
mod tests {
    use super::{check_endpoint, is_yes};
    use crate::AddressRule;

    #[test]
    fn a_switch_that_says_no_is_off() {
        assert!(["1", "true", "TRUE", "yes", "on"].into_iter().all(is_yes));
        assert!(!["0", "false", "False", "no", "off", ""].into_iter().any(is_yes));
    }

    #[test]
    fn an_address_without_tls_is_used_on_this_machine_or_on_request_alone() {
        assert_eq!(check_endpoint("https://minio:9000", false, None), Ok(false));
        assert_eq!(check_endpoint("http://127.0.0.1:9000", false, None), Ok(true));
        assert_eq!(check_endpoint("http://localhost", false, None), Ok(true));
        assert_eq!(check_endpoint("http://minio:9000", true, None), Ok(true));
        assert!(check_endpoint("http://minio:9000", false, None).is_err());
        assert!(check_endpoint("http://127.evil.example", false, None).is_err());
        assert!(check_endpoint("minio:9000", true, None).is_err());
    }

    #[test]
    fn an_endpoint_where_connections_do_not_go_is_refused_at_once() {
        let inner = AddressRule::inner_networks_too(Vec::new());
        for endpoint in [
            "http://169.254.169.254",
            "http://2852039166/latest",
            "http://0xa9fea9fe",
            "http://[::ffff:169.254.169.254]:80",
            "http://[fe80::1]",
            "https://0.0.0.0:9000",
        ] {
            let refused = check_endpoint(endpoint, true, Some(&inner)).unwrap_err();
            assert!(refused.contains("security.allowed_addresses"), "{endpoint}: {refused}");
        }
        for endpoint in
            ["http://127.0.0.1:9000", "http://localhost:9000", "https://10.0.0.5", "https://[fd12::1]"]
        {
            assert!(check_endpoint(endpoint, true, Some(&inner)).is_ok(), "{endpoint}");
        }
        let public = AddressRule::public(Vec::new());
        assert!(
            check_endpoint("http://localhost:9000", true, Some(&public)).is_err(),
            "a name by its address"
        );
        assert!(check_endpoint("https://no-such-host.invalid", true, Some(&public)).is_ok(), "not known yet");
    }
}
