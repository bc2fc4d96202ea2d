//! Profiles of the AWS command line: `~/.aws/credentials` and `~/.aws/config`.

use std::collections::HashMap;
use std::path::PathBuf;

/// Longer files are no profiles.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a profile says.
#[derive(Default)]
pub(super) struct Profile(HashMap<String, String>);

impl Profile {
    /// The profile that `AWS_PROFILE` names, or `default`. `Err` names what is missing if one was asked for.
    pub(super) fn chosen(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let asked = env("AWS_PROFILE").or_else(|| env("AWS_DEFAULT_PROFILE"));
        let name = asked.as_deref().unwrap_or("default");
        let home = |file: &str| env("HOME").map(|home| PathBuf::from(home).join(".aws").join(file));
        let mut found = HashMap::new();
        let files = [
            (env("AWS_CONFIG_FILE").map(PathBuf::from).or_else(|| home("config")), "profile "),
            (env("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).or_else(|| home("credentials")), ""),
        ];
        let mut any = false;
        for (path, before) in files {
            let Some(text) = path.as_deref().and_then(read) else { continue };
            let section = if name == "default" { name.to_owned() } else { format!("{before}{name}") };
            if let Some(keys) = sections(&text).remove(&section) {
                any = true;
                found.extend(keys);
            }
        }
        match asked {
            Some(name) if !any => Err(format!(
                "there is no profile '{}' in ~/.aws/credentials or ~/.aws/config",
                name.escape_debug()
            )),
            Some(name) if !found.contains_key("aws_access_key_id") => Err(format!(
                "profile '{}' holds no aws_access_key_id; profiles of other kinds (roles, single sign-on, processes) \
                 are not read: export their credentials into the environment",
                name.escape_debug()
            )),
            _ => Ok(Self(found)),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

fn read(path: &std::path::Path) -> Option<String> {
    let size = std::fs::metadata(path).ok()?.len();
    if size > FILE_BYTES_MAX { None } else { std::fs::read_to_string(path).ok() }
}

/// The keys of each `[section]`.
fn sections(text: &str) -> HashMap<String, HashMap<String, String>> {
    let mut all: HashMap<String, HashMap<String, String>> = HashMap::new();
    let mut current = None;
    for line in text.lines().map(str::trim_end) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            current = Some(name.split_whitespace().collect::<Vec<_>>().join(" "));
        } else if let (Some(section), Some((key, value))) = (&current, line.split_once('='))
            && !line.starts_with(['#', ';', ' ', '\t'])
        {
            let keys = all.entry(section.clone()).or_default();
            keys.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Profile, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(".aws").join(name), text).unwrap();
        }
        let home = dir.path().display().to_string();
        Profile::chosen(&|name| match name {
            "HOME" => Some(home.clone()),
            _ => variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
        })
    }

    const CREDENTIALS: &str = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=B=\n\n[other]\n\
                               aws_access_key_id = C\naws_secret_access_key = D\naws_session_token = T\n";

    #[test]
    fn a_profile_is_read_from_both_files() {
        let config =
            "[default]\nregion = eu-central-1\ns3 =\n  max = 3\n[profile other]\nregion = eu-west-1\n";
        let files = [("credentials", CREDENTIALS), ("config", config)];
        let usual = profile(&files, &[]).unwrap();
        assert_eq!(usual.get("aws_secret_access_key"), Some("B="));
        assert_eq!(usual.get("region"), Some("eu-central-1"));
        assert_eq!(usual.get("max"), None);
        let other = profile(&files, &[("AWS_PROFILE", "other")]).unwrap();
        assert_eq!((other.get("region"), other.get("aws_session_token")), (Some("eu-west-1"), Some("T")));
    }

    #[test]
    fn a_profile_that_was_asked_for_and_is_not_there_is_an_error() {
        assert!(profile(&[], &[]).unwrap().get("aws_access_key_id").is_none());
        assert!(profile(&[("credentials", CREDENTIALS)], &[("AWS_PROFILE", "none")]).is_err());
        let config = "[profile sso]\nsso_start_url = x\n";
        let refused = profile(&[("config", config)], &[("AWS_PROFILE", "sso")]).err().unwrap();
        assert!(refused.contains("not read"), "{refused}");
    }
}
