//! The pages: signing in, forms, what protects them, and that nothing from outside reaches them unescaped.

use super::support::{ADMIN, Answer, Asked, DR, PASSCODE, PASSWORD, World, ask};

/// A browser that has signed in: its cookie, and the field of its forms.
pub(super) struct Browser<'world> {
    world: &'world World,
    pub cookie: String,
}

impl<'world> Browser<'world> {
    pub async fn sign_in(world: &'world World, username: &str) -> Self {
        let form = format!("username={username}&password={PASSWORD}&next={DR}/stores");
        let answer = world.send(ask("POST", &format!("{ADMIN}/login")).form(&form)).await;
        assert_eq!(answer.status.as_u16(), 303, "{}", answer.text);
        assert_eq!(answer.header("location"), format!("{DR}/stores"));
        let set = answer.header("set-cookie");
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{set}");
        let cookie = set.split(';').next().expect("cookie").to_owned();
        Self { world, cookie }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.world.send(ask("GET", path).header("cookie", &self.cookie)).await
    }

    /// The field that the page's form holds.
    async fn field(&self, path: &str) -> String {
        let page = self.get(path).await.text;
        let at = page.find("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("no field: {page}"));
        page[at + 19..at + 19 + 64].to_owned()
    }

    fn post(&self, path: &str, form: &str) -> Asked {
        ask("POST", path).header("cookie", &self.cookie).header("sec-fetch-site", "same-origin").form(form)
    }

    pub async fn submit(&self, path: &str, form: &str) -> Answer {
        self.submit_from(path, path, form).await
    }

    /// Sends a form that another page holds.
    pub async fn submit_from(&self, page: &str, path: &str, form: &str) -> Answer {
        let field = self.field(page).await;
        self.world.send(self.post(path, &format!("csrf={field}&{form}"))).await
    }
}

#[tokio::test]
async fn a_browser_without_a_session_is_asked_to_sign_in_and_comes_back() {
    let world = World::open().await;
    let page = world.send(ask("GET", &format!("{DR}/stores"))).await;
    assert_eq!(page.status.as_u16(), 200);
    assert!(page.text.contains("Token Required"), "{}", page.text);
    assert!(page.text.contains(&format!("name=\"next\" value=\"{DR}/stores\"")), "{}", page.text);
    let login = format!("{ADMIN}/login");
    let wrong = world.send(ask("POST", &login).form("username=admin&password=nonsense")).await;
    assert!(wrong.text.contains("not right") && wrong.headers.get("set-cookie").is_none());
    let browser = Browser::sign_in(&world, "admin").await;
    assert!(browser.get(&format!("{DR}/stores")).await.text.contains("admin (administrator)"));
    let unregister = browser.get(&format!("{DR}/stores/s1/unregister")).await.text;
    assert!(unregister.contains("<h1>Unregister a backup store: s1</h1>"), "{unregister}");
    let away = format!("username=admin&password={PASSWORD}&next=https://evil.example/");
    assert_eq!(world.send(ask("POST", &login).form(&away)).await.header("location"), ADMIN);
    let foreign = ask("POST", &login).header("sec-fetch-site", "cross-site").form(&away);
    assert!(world.send(foreign).await.headers.get("set-cookie").is_none());
    assert_eq!(world.send(ask("GET", "/strongroom")).await.header("location"), ADMIN);
}

#[tokio::test]
async fn signing_out_ends_the_session_and_a_new_sign_in_gives_a_new_one() {
    let world = World::open().await;
    let browser = Browser::sign_in(&world, "victor").await;
    let again = Browser::sign_in(&world, "victor").await;
    assert_ne!(browser.cookie, again.cookie);
    let field = browser.field(ADMIN).await;
    let logout = format!("{ADMIN}/logout");
    let without = world.send(browser.post(&logout, "")).await;
    assert!(without.text.contains("FORBIDDEN"), "a foreign page cannot sign anybody out");
    let answer = world.send(browser.post(&logout, &format!("csrf={field}"))).await;
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
    assert!(browser.get(ADMIN).await.text.contains("Invalid Token"));
    assert!(again.get(ADMIN).await.text.contains("victor (viewer)"));
}

#[tokio::test]
async fn a_switch_that_must_be_sent_can_be_sent_either_way() {
    let world = World::open().await;
    let browser = Browser::sign_in(&world, "admin").await;
    let update = format!("{ADMIN}/mode/update");
    let page = browser.get(&update).await.text;
    for value in ["true", "false"] {
        assert!(page.contains(&format!("<option value=\"{value}\"")), "{page}");
        let field = browser.field(&update).await;
        let answer =
            world.send(browser.post(&update, &format!("csrf={field}&isReadOnly={value}&message="))).await;
        assert!(!answer.text.contains("PARAM_MISSING"), "{}", answer.text);
        assert_eq!(world.read(&format!("{ADMIN}/mode")).await["isReadOnly"].to_string(), value);
    }
}

#[tokio::test]
async fn a_form_works_only_with_its_field_and_from_our_own_pages() {
    let world = World::open().await;
    let browser = Browser::sign_in(&world, "admin").await;
    let register = format!("{DR}/stores/register");
    let form = "storeName=s1&settings={\"type\":\"HOSTED\"}";
    let field = browser.field(&register).await;
    for asked in [
        browser.post(&register, form),
        browser.post(&register, &format!("csrf={}&{form}", "0".repeat(64))),
        ask("POST", &register)
            .header("cookie", &browser.cookie)
            .header("sec-fetch-site", "cross-site")
            .form(&format!("csrf={field}&{form}")),
        ask("POST", &register)
            .header("cookie", &browser.cookie)
            .header("origin", "https://evil.example")
            .form(&format!("csrf={field}&{form}")),
    ] {
        let answer = world.send(asked).await;
        assert!(answer.text.contains("403 FORBIDDEN"), "{}", answer.text);
    }
    assert!(world.recovery.stores().await.expect("stores").is_empty());
    let done = world.send(browser.post(&register, &format!("csrf={field}&{form}"))).await;
    assert!(done.text.contains("success"), "{}", done.text);
}

#[tokio::test]
async fn every_operation_shows_its_form_and_keeps_secrets_out_of_it() {
    let world = World::open().await;
    let browser = Browser::sign_in(&world, "admin").await;
    for endpoint in crate::endpoints::ENDPOINTS {
        let Some(form) = endpoint.kind.form() else { continue };
        let path = format!("/strongroom/{}", endpoint.path.replace(['{', '}'], ""));
        let page = browser.get(&path).await.text;
        assert!(
            page.contains(&format!("<form class=\"operation\" method=\"post\" action=\"{path}\">")),
            "{page}"
        );
        for field in form.fields {
            assert!(page.contains(&format!("name=\"{}\"", field.name)), "{} in {path}", field.name);
        }
        let secret = page.contains("type=\"password\"");
        assert_eq!(
            secret,
            form.fields.iter().any(|field| matches!(field.name, "passcode" | "password")),
            "{path}"
        );
    }
    let create = format!("{DR}/stores/s1/backups/create");
    let page = browser.submit(&create, &format!("name=kept name&passcode={PASSCODE}&retentionDays=x")).await;
    assert!(
        page.text.contains("value=\"kept name\"") && page.text.contains("PARAM_INVALID"),
        "{}",
        page.text
    );
    assert!(!page.text.contains(PASSCODE));
}

#[tokio::test]
async fn a_secret_in_an_object_does_not_come_back_with_a_refused_form_and_is_refused_in_an_address() {
    let world = World::open().await;
    let browser = Browser::sign_in(&world, "admin").await;
    let settings = "{\"type\":\"S3\",\"connection\":{\"bucketName\":\"no\",\"credential\":{\"type\":\"ACCESS-KEY\",\
                    \"secret\":{\"accessKey\":\"A\",\"secretKey\":\"planted-here\"}}}}";
    let register = format!("{DR}/stores/register");
    let page = browser.submit(&register, &format!("storeName=kept-name&settings={settings}")).await.text;
    assert!(page.contains("kept-name") && page.contains("PARAM_"), "{page}");
    assert!(!page.contains("planted-here"), "{page}");
    let settings = crate::path::encode(settings);
    let shown = browser.get(&format!("{register}?settings={settings}")).await.text;
    assert!(shown.contains("METHOD_NOT_ALLOWED") && !shown.contains("planted-here"), "{shown}");
    let task = "type=CreateBackup&title=t&parameters={\"passcode\":\"planted-here\"";
    let page = browser.submit(&format!("{ADMIN}/system/tasks/createTask"), task).await.text;
    assert!(page.contains("problem") && !page.contains("planted-here"), "{page}");
}

#[tokio::test]
async fn a_store_is_registered_by_filling_in_plain_fields() {
    let world = World::open().await;
    let browser = Browser::sign_in(&world, "admin").await;
    let register = format!("{DR}/stores/register");
    let choice = browser.get(&register).await.text;
    for kind in ["directory", "hosted", "s3", "azure", "google"] {
        let form = format!("{register}?kind={kind}");
        assert!(choice.contains(&format!("href=\"{form}\"")), "{kind} in {choice}");
        let page = browser.get(&form).await.text;
        assert!(page.contains(&format!("name=\"kind\" value=\"{kind}\"")), "{page}");
        assert!(!page.contains("JSON object"), "nobody has to write any: {page}");
    }
    let both = "storeName=both&kind=hosted&settings={\"type\":\"FILESYSTEM\",\"supportBDSBackup\":true}";
    let refused = browser.submit(&register, both).await.text;
    assert!(refused.contains("NOT_SUPPORTED"), "settings are not dropped for a kind beside them: {refused}");
    assert!(world.recovery.stores().await.expect("stores").is_empty());
    let form = format!("{register}?kind=directory");
    let place = world.directory.path().join("backup/main");
    let outside = "kind=directory&storeName=main&isDefault=true&rootDir=/etc";
    let page = browser.submit_from(&form, &register, outside).await.text;
    for part in ["value=\"main\"", "value=\"/etc\"", "value=\"true\" checked", "id=\"rootDir-error\""] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert_eq!(page.matches("aria-invalid=\"true\"").count(), 1, "{page}");
    let fine = format!("kind=directory&storeName=main&isDefault=true&rootDir={}", place.display());
    let done = browser.submit_from(&form, &register, &fine).await;
    assert_eq!(done.header("location"), format!("{DR}/stores/main"), "{}", done.text);
    let hosted = browser.submit_from(&form, &register, "kind=hosted&storeName=other").await;
    assert_eq!(hosted.header("location"), format!("{DR}/stores/other"), "{}", hosted.text);
    let stores = world.recovery.stores().await.expect("stores");
    let told: Vec<_> =
        stores.iter().map(|store| (store.name.as_str(), store.kind.as_str(), store.default)).collect();
    assert_eq!(told, [("main", "FILESYSTEM", true), ("other", "HOSTED", false)]);
    // Programs have the one documented form.
    let by_program = world.run(&register, "kind=hosted&storeName=third").await;
    assert!(
        by_program["error"]["message"].as_str().is_some_and(|told| told.contains("'settings'")),
        "{by_program}"
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_bucket_is_told_at_its_field_and_no_secret_comes_back() {
    let world = World::open().await;
    let browser = Browser::sign_in(&world, "admin").await;
    let register = format!("{DR}/stores/register");
    let form = format!("{register}?kind=s3");
    let typed = "kind=s3&storeName=cloud&region=eu-1&credentialType=ACCESS-KEY&accessKey=AKIA&secretKey=planted-secret";
    for (more, field) in [
        ("&bucketName=x", "bucketName"),
        ("&bucketName=", "bucketName"),
        ("&bucketName=dr-1&rootDir=../up", "rootDir"),
        ("&bucketName=dr-1&endpointUrl=https://a:b@host", "endpointUrl"),
        ("&bucketName=dr-1&sessionToken=&secretKey=", "secretKey"),
    ] {
        let sent = match field {
            "secretKey" => typed.replace("&secretKey=planted-secret", "") + more,
            _ => format!("{typed}{more}"),
        };
        let page = browser.submit_from(&form, &register, &sent).await.text;
        assert!(page.contains(&format!("id=\"{field}-error\"")), "{field} in {page}");
        assert!(page.contains("value=\"eu-1\"") && page.contains("value=\"AKIA\""), "{page}");
        assert!(!page.contains("planted-secret") && !page.contains("&#39;settings&#39;"), "{page}");
    }
    let other_rights = typed.replace("ACCESS-KEY", "IAM-ROLE") + "&bucketName=dr-1";
    let page = browser.submit_from(&form, &register, &other_rights).await.text;
    assert!(
        page.contains("id=\"accessKey-error\"") && page.contains("<option value=\"IAM-ROLE\" selected>"),
        "{page}"
    );
    // A secret in a URL is a secret in logs.
    let in_url = browser.get(&format!("{form}&secretKey=planted-secret")).await.text;
    assert!(in_url.contains("METHOD_NOT_ALLOWED") && !in_url.contains("planted-secret"), "{in_url}");
    assert!(world.recovery.stores().await.expect("stores").is_empty());
}

#[tokio::test]
async fn a_store_is_changed_by_filling_in_plain_fields() {
    let world = World::open().await.with_store().await;
    let browser = Browser::sign_in(&world, "admin").await;
    let store = format!("{DR}/stores/s1");
    let update = format!("{store}/update");
    let page = browser.get(&store).await.text;
    assert!(page.contains(&format!("href=\"{update}?kind=hosted\"")), "{page}");
    let form = format!("{update}?kind=hosted");
    let nothing = browser.submit_from(&form, &update, "kind=hosted&isDefault=").await.text;
    assert!(nothing.contains("id=\"isDefault-error\""), "{nothing}");
    let done = browser.submit_from(&form, &update, "kind=hosted&isDefault=false").await;
    assert_eq!(done.header("location"), store, "{}", done.text);
    assert!(!world.recovery.stores().await.expect("stores")[0].default);
    // A directory has no credential, whatever form it is asked with.
    let bucket = "kind=s3&isDefault=&credentialType=IAM-ROLE";
    let refused = browser.submit_from(&format!("{update}?kind=s3"), &update, bucket).await.text;
    assert!(refused.contains("NOT_SUPPORTED"), "{refused}");
}

#[tokio::test]
async fn a_viewer_sees_no_buttons_that_would_be_refused() {
    let world = World::open().await.with_store().await;
    let viewer = Browser::sign_in(&world, "victor").await.get(&format!("{DR}/stores/s1")).await.text;
    let admin = Browser::sign_in(&world, "admin").await.get(&format!("{DR}/stores/s1")).await.text;
    let button = format!("href=\"{DR}/stores/s1/unregister\"");
    assert!(!viewer.contains(&button) && admin.contains(&button), "{viewer}");
    assert!(viewer.contains(&format!("href=\"{DR}/stores/s1/backups\"")));
    assert!(viewer.contains("aria-label=\"Breadcrumbs\""));
}

#[tokio::test]
async fn an_accepted_job_leads_to_its_page_which_follows_it_to_the_end() {
    let world = World::open().await.with_store().await;
    let browser = Browser::sign_in(&world, "olga").await;
    let create = format!("{DR}/stores/s1/backups/create");
    let answer = browser.submit(&create, &format!("name=b1&passcode={PASSCODE}&retentionDays=14")).await;
    assert_eq!(answer.status.as_u16(), 303, "{}", answer.text);
    let page = answer.header("location").to_owned();
    let id = page.rsplit('/').next().expect("id");
    world.wait(&serde_json::json!({"jobid": id})).await;
    let text = browser.get(&page).await.text;
    assert!(text.contains("Backup · success") && text.contains("Validation"), "{text}");
    assert!(!text.contains("http-equiv=\"refresh\""), "nothing more will happen");
    let list = browser.get(&format!("{DR}/stores/s1/backups")).await.text;
    assert!(list.contains(&format!("href=\"{DR}/stores/s1/backups/b1\"")), "{list}");
}

#[tokio::test]
async fn nothing_from_outside_reaches_a_page_unescaped() {
    let world = World::open().await.with_store().await;
    let browser = Browser::sign_in(&world, "admin").await;
    let evil = "%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%27";
    for path in [
        format!("{DR}/stores/{evil}"),
        format!("{DR}/stores/{evil}/update"),
        format!("{DR}/stores/s1/backups/{evil}/restore?components={evil}"),
        format!("{DR}/stores/register?storeName={evil}&settings={evil}"),
        format!("{ADMIN}/jobs/{evil}"),
        format!("{ADMIN}/login?next=/strongroom/admin/{evil}"),
        format!("/{evil}"),
        format!("{ADMIN}?f={evil}"),
    ] {
        let page = without_our_script(&browser.get(&path).await.text);
        assert!(!page.contains("<script"), "{path}: {page}");
    }
    let typed = format!("name={evil}&retentionDays={evil}");
    let submitted = browser.submit(&format!("{DR}/stores/s1/backups/create"), &typed).await;
    let submitted = without_our_script(&submitted.text);
    assert!(!submitted.contains("<script") && submitted.contains("&#60;script"), "{submitted}");
    let anonymous = world.send(ask("GET", &format!("{DR}/stores/{evil}"))).await;
    assert!(!anonymous.text.contains("<script"));
}

/// A page without the one script that belongs there.
pub(super) fn without_our_script(page: &str) -> String {
    page.replacen("<script defer src=\"/strongroom/static/console.js\"></script>", "", 1)
}

#[tokio::test]
async fn style_sheet_script_and_icon_are_public_and_the_only_things_that_may_be_kept() {
    let world = World::open().await;
    for (file, kind, holds) in [
        ("style.css", "text/css; charset=utf-8", "prefers-color-scheme"),
        ("console.js", "text/javascript; charset=utf-8", "EventSource"),
        ("icon.svg", "image/svg+xml", "<svg"),
    ] {
        let asset = world.send(ask("GET", &format!("/strongroom/static/{file}"))).await;
        assert_eq!(asset.header("content-type"), kind);
        assert!(asset.header("cache-control").starts_with("public"));
        assert!(asset.text.contains(holds), "{file}");
    }
    let page = Browser::sign_in(&world, "victor").await.get(ADMIN).await;
    assert_eq!(page.header("cache-control"), "no-store");
    assert!(page.text.contains("/strongroom/static/style.css"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let rest = without_our_script(&page.text);
    for inline in ["<script", "<style", " style=", " onclick=", "javascript:"] {
        assert!(!rest.contains(inline), "{inline} in {rest}");
    }
}
