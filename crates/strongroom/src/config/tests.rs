//! What a person who mistypes the configuration gets to read, and what the environment may change.

use std::path::Path;
use std::time::Duration;

use super::environment::Variable;
use super::*;
use crate::exit::{self, Exit};

const FILE: &str = "/etc/strongroom/strongroom.toml";

fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<Config, Failure> {
    let variables: Vec<_> = variables.iter().map(|(name, text)| Variable::for_test(name, text)).collect();
    parse(text, Path::new(FILE), &variables)
}

fn refusal(text: &str, variables: &[(&str, &str)]) -> String {
    let failure = load_text(text, variables).unwrap_err();
    let told = format!("{failure}\n{failure:?}");
    assert_eq!(exit::classify(&failure.into()), Exit::Usage);
    told
}

#[test]
fn an_empty_file_is_a_configuration_with_paths_beside_it() {
    let config = load_text("", &[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:7443");
    assert_eq!(config.data_directory, Path::new("/etc/strongroom/data"));
    assert_eq!(config.url_at(config.listen), "https://127.0.0.1:7443/strongroom");
    let settings = config.settings("https://x/strongroom".to_owned());
    assert_eq!(settings.state_file, Path::new("/etc/strongroom/data/state.db"));
    assert_eq!(settings.master_key_file, Path::new("/etc/strongroom/data/master.key"));
    assert_eq!(settings.deletion_grace, Duration::from_secs(3600));
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_key_that_was_meant() {
    let told = refusal("[server]\nlistne = \"0.0.0.0:1\"\n", &[]);
    assert!(told.contains("strongroom.toml line 2: unknown key 'listne'"), "{told}");
    assert!(told.contains("did you mean 'listen'?"), "{told}");
    let told = refusal("[server]\n\n[serverr]\n", &[]);
    assert!(told.contains("line 3: unknown key 'serverr'") && told.contains("'server'"), "{told}");
    let told = refusal("[state]\nzebra = 1\n", &[]);
    assert!(told.contains("known here: url"), "{told}");
}

#[test]
fn a_secret_in_clear_is_refused_with_the_right_key_and_not_repeated() {
    let told = refusal("[[component]]\nkind = \"fileStore\"\npassword = \"hunter2hunter2\"\n", &[]);
    assert!(told.contains("line 3") && told.contains("password_file"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn a_value_of_the_wrong_type_or_broken_syntax_is_told_with_its_line() {
    let told = refusal("[server]\n# a comment\nlisten = 7\n", &[]);
    assert!(told.contains("line 3"), "{told}");
    let told = refusal("[server]\nlisten = \n", &[]);
    assert!(told.contains("line 2"), "{told}");
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "[server]\nlisten = \"127.0.0.1:1\"\n[[component]]\nkind = \"fileStore\"\nname = \"a\"\npath = \"b\"\n";
    let variables = [
        ("STRONGROOM_SERVER__LISTEN", "0.0.0.0:9"),
        ("STRONGROOM_SERVER__TLS__ENABLED", "false"),
        ("STRONGROOM_STORES__ALLOWED_DIRECTORIES", r#"["/backup"]"#),
        ("STRONGROOM_COMPONENT__0__PATH", "/srv/maps"),
        ("STRONGROOM_SERVER__SITE_NAME", "12"),
    ];
    let config = load_text(text, &variables).unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:9");
    assert_eq!(config.tls, Tls::Off);
    assert_eq!(config.component_paths, [("a".to_owned(), PathBuf::from("/srv/maps"))]);
    let settings = config.settings(String::new());
    assert_eq!(settings.allowed_directories, [PathBuf::from("/backup")]);
    assert_eq!(settings.site_name, "12", "text that looks like a number is still text");
}

#[test]
fn a_wrong_variable_is_told_by_its_name() {
    let told = refusal("", &[("STRONGROOM_SERVER__LISTN", "x")]);
    assert!(told.contains("STRONGROOM_SERVER__LISTN") && told.contains("did you mean 'listen'?"), "{told}");
    let told = refusal("", &[("STRONGROOM_LIMITS__DELETION_GRACE_MINUTES", "soon")]);
    assert!(told.contains("STRONGROOM_LIMITS__DELETION_GRACE_MINUTES"), "{told}");
    let told = refusal("", &[("STRONGROOM_COMPONENT__3__PATH", "/x")]);
    assert!(told.contains("STRONGROOM_COMPONENT__3__PATH"), "{told}");
}

#[test]
fn variables_without_a_section_are_no_configuration() {
    let all = ["STRONGROOM_PASSCODE", "STRONGROOM_LOG", "STRONGROOM_REPOSITORY", "HOME"];
    let found = environment::variables(all.iter().map(|name| ((*name).into(), "x".into())));
    assert!(found.is_empty());
}

#[test]
fn a_bucket_is_taken_with_its_keys_and_a_mistake_in_them_is_told() {
    let bucket = |lines: &str| format!("[[component]]\nkind = \"objectStore\"\nname = \"uploads\"\n{lines}");
    let good =
        bucket("url = \"s3://uploads/site1\"\nendpoint = \"http://127.0.0.1:9000\"\nconnections = 3\n");
    let config = load_text(&good, &[]).unwrap();
    assert_eq!(config.components[0].place(), "s3:http://127.0.0.1:9000/uploads/site1");
    let told = |lines: &str| refusal(&bucket(lines), &[]);
    let two = |first: &str, second: &str| {
        let other = bucket(&format!("url = \"{second}\"\n")).replace("uploads\"\nurl", "others\"\nurl");
        load_text(&format!("{}{other}", bucket(&format!("url = \"{first}\"\n"))), &[])
    };
    for (first, second) in
        [("s3://one/a", "s3://one"), ("s3://one", "s3://one/a/b"), ("s3://one", "s3://one/")]
    {
        assert!(
            format!("{:?}", two(first, second).unwrap_err()).contains("share objects"),
            "{first} {second}"
        );
    }
    assert!(two("s3://one/a", "s3://one/ab").is_ok());
    assert!(told("").contains("url is missing"));
    assert!(told("url = \"/srv\"\n").contains("names no bucket"));
    assert!(told("url = \"s3://me:geheim@uploads/\"\n").contains("must hold no credentials"));
    assert!(
        told("url = \"s3://uploads\"\naccess_key_id = \"a\"\n").contains("without secret_access_key_file")
    );
    assert!(
        told("url = \"s3://uploads\"\nsecret_access_key_env = \"PATH\"\n").contains("without access_key_id")
    );
    assert!(told("url = \"s3://uploads\"\nconnections = 0\n").contains("1 to 64"));
    assert!(told("url = \"s3://uploads\"\nendpoint = \"http://minio\"\n").contains("has no TLS"));
    assert!(
        told("url = \"s3://uploads\"\ndatabases = [\"*\"]\n")
            .contains("'databases' is no key of kind objectStore")
    );
}

#[test]
fn a_bucket_of_each_service_takes_its_own_keys_and_none_of_another() {
    let bucket = |lines: &str| format!("[[component]]\nkind = \"objectStore\"\nname = \"uploads\"\n{lines}");
    let told = |lines: &str| refusal(&bucket(lines), &[]);
    let azure = "url = \"azblob://uploads/site1\"\n";
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).display().to_string()
    };
    let key = format!("account_key_file = \"{}\"\n", file("key", "YWJj\n"));
    for rights in
        [format!("account = \"acme\"\n{key}"), "account = \"acme\"\nmanaged_identity = \"an-id\"\n".into()]
    {
        let config = load_text(&bucket(&format!("{azure}{rights}")), &[]).unwrap();
        assert_eq!(config.components[0].place(), "azblob://uploads/site1");
    }
    assert!(told(&format!("{azure}{key}")).contains("without account"));
    let both = format!("{azure}account = \"acme\"\nmanaged_identity = \"an-id\"\n{key}");
    assert!(told(&both).contains("leave one out"));
    assert!(
        told(&format!("{azure}account = \"not a name\"\n{key}"))
            .contains("'not a name' is no storage account")
    );
    assert!(
        told(&format!("{azure}region = \"eu\"\n")).contains("'region' is no key of a bucket of azblob://")
    );
    assert!(
        told("url = \"s3://uploads\"\naccount = \"a\"\n")
            .contains("'account' is no key of a bucket of s3://")
    );

    let google = "url = \"gs://uploads\"\n";
    assert!(told(&format!("{google}account = \"a\"\n")).contains("'account' is no key of a bucket of gs://"));
    let unread = told(&format!("{google}service_account_file = \"{}\"\n", file("account", "no JSON")));
    assert!(unread.contains("component 'uploads'") && !unread.contains("no JSON"), "{unread}");
    assert!(told("url = \"s3://uploads\"\nservice_account_file = \"f\"\n").contains("of a bucket of s3://"));
}

#[test]
fn other_kinds_of_component_are_known_but_not_built_yet() {
    let text = "[[component]]\nkind = \"systemConfiguration\"\nname = \"cluster\"\nnamespace = \"gis\"\n";
    let told = refusal(text, &[]);
    assert!(told.contains("component 'cluster'") && told.contains("not in this build yet"), "{told}");
    let told = refusal("[[component]]\nkind = \"fileStor\"\nname = \"a\"\n", &[]);
    assert!(told.contains("'fileStor' is none of fileStore"), "{told}");
}

#[test]
fn a_database_server_is_checked_and_its_password_is_never_in_the_address() {
    let server = |lines: &str| format!("[[component]]\nkind = \"relationalStore\"\nname = \"gis\"\n{lines}");
    let config = load_text(&server("url = \"postgres://backup@db/\"\n"), &[]).unwrap();
    assert_eq!(config.components[0].place(), "postgres://backup@db:5432/");
    assert_eq!(config.component_paths, []);
    let refused = |lines: &str| refusal(&server(lines), &[]);
    assert!(refused("").contains("url is missing"));
    let told = refused("url = \"postgres://backup:hunter2hunter2@db/\"\n");
    assert!(told.contains("component 'gis'") && told.contains("password_file"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    let good = "url = \"postgres://backup@db/\"\n";
    assert!(
        refused(&format!("{good}path = \"/srv\"\n")).contains("'path' is no key of kind relationalStore")
    );
    assert!(refused(&format!("{good}connections = 65\n")).contains("1 to 64"));
    assert!(refused(&format!("{good}databases = []\n")).contains("databases is empty"));
    assert!(
        refused(&format!("{good}password_env = \"NO_SUCH_VARIABLE\"\n"))
            .contains("NO_SUCH_VARIABLE, which is not set")
    );
}

#[test]
fn a_component_needs_its_own_name_and_a_path_that_is_not_the_whole_machine() {
    let store = |name: &str, path: &str| {
        format!("[[component]]\nkind = \"fileStore\"\nname = \"{name}\"\npath = \"{path}\"\n")
    };
    let told = refusal(&(store("a", "x") + &store("a", "y")), &[]);
    assert!(told.contains("two components have this name"), "{told}");
    for word in ["fileStore", "OBJECTSTORE"] {
        let told = refusal(&store(word, "x"), &[]);
        assert!(told.contains("the word for a kind"), "{told}");
    }
    assert!(refusal(&store("a", "../../.."), &[]).contains("root of the whole machine"));
    assert!(refusal(&store("a", ""), &[]).contains("path is missing"));
    assert!(refusal(&(store("a", "x") + "namespace = \"gis\"\n"), &[]).contains("'namespace' is no key"));
}

#[test]
fn addresses_urls_and_contexts_are_checked() {
    assert!(refusal("[server]\nlisten = \"localhost\"\n", &[]).contains("server.listen"));
    assert!(refusal("[server]\ncontext = \"a/b\"\n", &[]).contains("server.context"));
    assert!(refusal("[server]\npublic_url = \"dr.example.org\"\n", &[]).contains("server.public_url"));
    assert!(refusal("[state]\nurl = \"postgres://db/x\"\n", &[]).contains("not in this build yet"));
    assert!(refusal("[server.tls]\nkey_file = \"k\"\n", &[]).contains("together"));
    let config = load_text("[server]\npublic_url = \"https://dr.example.org/strongroom/\"\n", &[]).unwrap();
    assert_eq!(config.url_at(config.listen), "https://dr.example.org/strongroom");
}

#[test]
fn the_template_is_a_configuration_and_its_comments_are_right() {
    let template = Template {
        listen: "127.0.0.1:7443".to_owned(),
        allowed_directories: vec![PathBuf::from("/backup \"quoted\"")],
        component: None,
    };
    let config = load_text(&template.text(), &[]).unwrap();
    assert!(config.components.is_empty());
    assert!(matches!(config.tls, Tls::Files { .. }));
    let settings = config.settings(String::new());
    assert_eq!(settings.allowed_directories, [PathBuf::from("/backup \"quoted\"")]);

    // Every commented key, switched on, is a key that exists.
    let example = Template { component: Some(("a".to_owned(), PathBuf::from("/srv/a"))), ..template };
    let switched_on: String = example
        .text()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest,
            _ => line,
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let config = load_text(&switched_on, &[]).unwrap();
    assert_eq!(config.component_paths, [("a".to_owned(), PathBuf::from("/srv/a"))]);
    assert_eq!(config.public_url.as_deref(), Some("https://dr.example.org/strongroom"));
}

#[test]
fn what_a_restore_exchanges_holds_neither_another_component_nor_the_servers_own_files() {
    let component = |name: &str, path: &str| {
        format!("[[component]]\nkind = \"fileStore\"\nname = \"{name}\"\npath = \"{path}\"\n")
    };
    let nested = component("a", "/srv") + &component("b", "/srv/b");
    assert!(refusal(&nested, &[]).contains("component 'b' lies in its path /srv"));
    let own = refusal(&component("a", "/etc/strongroom"), &[]);
    assert!(own.contains("server.data_directory (/etc/strongroom/data)"), "{own}");
    let state = format!("[state]\nurl = \"sqlite:/srv/state.db\"\n{}", component("a", "/srv"));
    assert!(refusal(&state, &[]).contains("state.url"));
    load_text(&(component("a", "/srv/a") + &component("b", "/srv/ab")), &[]).unwrap();
}

#[test]
fn a_hooks_time_limit_is_neither_nothing_nor_for_ever() {
    for seconds in ["0", "604801", "9223372036854775807"] {
        let text = format!(
            "[[component]]\nkind = \"fileStore\"\nname = \"a\"\npath = \"/srv\"\nhook_timeout_seconds = {seconds}\n"
        );
        assert!(refusal(&text, &[]).contains("hook_timeout_seconds must be 1 to 604800"), "{seconds}");
    }
}

#[test]
fn a_provider_is_checked_and_its_secret_is_read_from_a_file_or_a_variable_and_told_nobody() {
    let oidc = |lines: &str| {
        format!(
            "[oidc]\nissuer = \"https://login.example\"\nclient_id = \"us\"\nrole_claim = \"roles\"\n{lines}"
        )
    };
    let roles = "viewer_values = [\"staff\"]\n";
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "planted-secret\n").unwrap();
    let with_secret = format!("{roles}client_secret_file = \"{}\"\n", secret.display());
    let config = load_text(&oidc(&with_secret), &[("STRONGROOM_OIDC__LABEL", "Example")]).unwrap();
    assert!(!format!("{config:?}").contains("planted"));
    let settings = config.oidc.unwrap().settings().unwrap();
    assert!(!format!("{settings:?}").contains("planted"));
    assert_eq!(secrecy::ExposeSecret::expose_secret(&settings.client_secret.unwrap()), "planted-secret");
    assert_eq!(
        (settings.label.as_str(), settings.username_claim.as_str()),
        ("Example", "preferred_username")
    );
    assert_eq!(
        load_text(&oidc(roles), &[]).unwrap().oidc.unwrap().settings().unwrap().label,
        "login.example"
    );
    for (lines, why) in [
        (String::new(), "gives nobody a role"),
        (format!("{roles}clock_skew_seconds = 301\n"), "at most 300"),
        (format!("{with_secret}client_secret_env = \"X\"\n"), "give one of them"),
        (format!("{roles}client_secret = \"x\"\n"), "use 'client_secret_file'"),
    ] {
        let told = refusal(&oidc(&lines), &[]);
        assert!(told.contains(why), "{told}");
    }
    for issuer in
        ["http://login.example", "login.example", "https://a@login.example", "https://login.example/?a"]
    {
        let told = refusal(&oidc(roles), &[("STRONGROOM_OIDC__ISSUER", issuer)]);
        assert!(told.contains("must start with https://"), "{told}");
    }
    let lacking = format!("[oidc]\nissuer = \"https://login.example\"\n{roles}");
    assert!(refusal(&lacking, &[]).contains("client_id is missing"));
    let missing = format!("{roles}client_secret_env = \"NO_SUCH_VARIABLE_HERE\"\n");
    let missing = load_text(&oidc(&missing), &[]).unwrap().oidc.unwrap().settings().unwrap_err().to_string();
    assert!(missing.contains("NO_SUCH_VARIABLE_HERE"), "{missing}");
}

const MAIL: &str = "[[notify]]\nkind = \"mail\"\nname = \"m\"\nhost = \"localhost\"\ntls = \"none\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n";

#[test]
fn who_is_told_is_read_with_secrets_from_files_and_shown_without_them() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), "hunter2hunter2\n").unwrap();
    std::fs::write(directory.path().join("url"), "https://hooks.example.org/T0/hidden-path\n").unwrap();
    let text = format!(
        "{MAIL}[[notify]]\nkind = \"webhook\"\nname = \"w\"\nurl_file = \"url\"\nsecret_file = \"secret\"\nevents = [\"backup.failed\"]\n"
    );
    let config = parse(&text, &directory.path().join("strongroom.toml"), &[]).unwrap();
    let settings = config.settings(String::new());
    let [mail, webhook] = settings.notify.as_slice() else { panic!("{:?}", settings.notify) };
    assert_eq!(mail.target.place(), "b@example.org by localhost:25");
    assert_eq!(mail.events, recovery::EventKind::ALL, "all of them if none is named");
    assert_eq!(webhook.target.place(), "https://hooks.example.org");
    assert_eq!(webhook.events, [recovery::EventKind::BackupFailed]);
    let shown = format!("{settings:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("hidden-path"), "{shown}");
}

#[test]
fn a_wrong_target_of_notifications_is_told_by_name() {
    let webhook = "[[notify]]\nkind = \"webhook\"\nname = \"w\"\nurl = \"https://hooks.example.org\"\n";
    for (text, told) in [
        ("[[notify]]\nkind = \"pigeon\"\nname = \"w\"\n".to_owned(), "neither webhook nor mail"),
        (webhook.to_owned(), "notify 'w': secret_file is missing"),
        (format!("{webhook}secret_file = \"/nonexistent\"\n"), "cannot read the secret"),
        (format!("{webhook}to = [\"a@b.c\"]\n"), "'to' is no key of a webhook"),
        (format!("{webhook}events = [\"backup.fialed\"]\n"), "did you mean 'backup.failed'?"),
        (format!("{webhook}password = \"x\"\n"), "password_file"),
        (format!("{MAIL}{MAIL}"), "two have this name"),
        (MAIL.replace("b@example.org", "nobody"), "'nobody' is no mail address"),
        (format!("{MAIL}username = \"u\"\n"), "belong together"),
        ("[security]\nallowed_addresses = [\"10.0.0.0/33\"]\n".to_owned(), "10.0.0.0/33"),
    ] {
        let refusal = refusal(&text, &[]);
        assert!(refusal.contains(told), "{text}: {refusal}");
    }
}
