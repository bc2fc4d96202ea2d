//! Sign-in through a real OpenID Connect provider: the npm package `oidc-provider`, in a process of its own, with a
//! browser that knows nothing but links, forms and cookies.

use std::collections::BTreeMap;

use serde_json::json;
use strongroom_tests::server::{Launch, Options, Site};
use strongroom_tests::services::Provider;

use crate::client::site_with;

const SECRET: &str = "planted: secret of the client & more";

/// A browser as far as a sign-in needs one: it keeps cookies by site and shows where it is sent.
struct Browser {
    agent: ureq::Agent,
    cookies: BTreeMap<(String, String), String>,
}

struct Page {
    status: u16,
    location: Option<String>,
    text: String,
}

fn site_of(url: &str) -> String {
    url.split('/').take(3).collect::<Vec<_>>().join("/")
}

impl Browser {
    fn new(site: &Site) -> Self {
        Self { agent: site.browser_agent(), cookies: BTreeMap::new() }
    }

    fn ask(&mut self, url: &str, form: Option<&[(&str, &str)]>) -> Page {
        let origin = site_of(url);
        let ours = self.cookies.iter().filter(|((site, _), _)| *site == origin);
        let cookies: Vec<_> = ours.map(|((_, name), value)| format!("{name}={value}")).collect();
        let mut reply = match form {
            None => self.agent.get(url).header("cookie", cookies.join("; ")).call().unwrap(),
            Some(form) => {
                let request = self.agent.post(url).header("cookie", cookies.join("; "));
                request.send_form(form.iter().copied()).unwrap()
            }
        };
        for set in reply.headers().get_all("set-cookie") {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert((origin.clone(), name.to_owned()), value.to_owned());
        }
        let location = reply.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        let location = location.map(|to| if to.starts_with('/') { format!("{origin}{to}") } else { to });
        let status = reply.status().as_u16();
        Page { status, location, text: reply.body_mut().read_to_string().unwrap() }
    }

    /// Goes where it is sent until it is shown a page; that page and its URL.
    fn follow(&mut self, url: &str) -> (String, Page) {
        let mut url = url.to_owned();
        for _ in 0..10 {
            let page = self.ask(&url, None);
            match page.location {
                Some(location) => url = location,
                None => return (url, page),
            }
        }
        panic!("sent in circles: {url}")
    }

    /// Signs in at the provider as that person and comes back.
    fn sign_in(&mut self, site: &Site, person: &str) -> Page {
        let (url, page) = self.follow(&format!("{}/admin/oidc/start", site.url()));
        assert!(page.text.contains("name=\"login\""), "{url}: {}", page.text);
        let sent = self.ask(&url, Some(&[("prompt", "login"), ("login", person), ("password", "any")]));
        let (url, page) = self.follow(&sent.location.unwrap());
        assert!(page.text.contains("consent"), "{url}: {}", page.text);
        let sent = self.ask(&url, Some(&[("prompt", "consent")]));
        let (url, page) = self.follow(&sent.location.unwrap());
        assert!(url.starts_with(&site.url()), "{url}: {}", page.text);
        page
    }
}

#[test]
fn people_sign_in_through_a_real_provider() {
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let site = site_with(Options::default());
        let callback = format!("{}/admin/oidc/callback", site.url());
        let Some(provider) = Provider::start(&callback) else { return };
        let settings = [
            ("ISSUER", provider.issuer()),
            ("CLIENT_ID", format!("strongroom {algorithm}")),
            ("CLIENT_SECRET_ENV", "THE_SECRET".to_owned()),
            ("ROLE_CLAIM", "groups".to_owned()),
            ("ADMINISTRATOR_VALUES", json!(["dr-admins"]).to_string()),
            ("VIEWER_VALUES", json!(["dr-viewers"]).to_string()),
        ];
        let mut environment: Vec<_> =
            settings.map(|(key, value)| (format!("STRONGROOM_OIDC__{key}"), value)).to_vec();
        environment.push(("THE_SECRET".to_owned(), SECRET.to_owned()));
        let server = site.start_as(&Launch { environment, ..Launch::default() });
        for (person, role) in [("anna", "administrator"), ("bert", "viewer")] {
            let mut browser = Browser::new(&site);
            let page = browser.sign_in(&site, person);
            assert_eq!(page.status, 200, "{}", page.text);
            assert!(page.text.contains("Signed in"), "{}\n{}", page.text, site.log());
            let start = browser.ask(&format!("{}/admin", site.url()), None);
            assert!(start.text.contains(&format!("oidc:{person} ({role})")), "{}", start.text);
        }
        let mut browser = Browser::new(&site);
        let page = browser.sign_in(&site, "carla");
        assert!(page.text.contains("gives you a role"), "{}\n{}", page.text, site.log());
        assert!(!browser.cookies.keys().any(|(_, name)| name == "__Host-strongroom"));
        drop(provider);
        site.client().get("admin").unwrap().ok();
        drop(server);
        assert!(!site.log().contains("planted"), "no secret is in the log");
    }
}
