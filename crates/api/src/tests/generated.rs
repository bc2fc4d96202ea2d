//! Requests that nobody would write by hand: any method, path, parameter, encoding, header and body, half of them with a
//! valid token, against a deployment at work. `STRONGROOM_TEST_REQUESTS` says how many, `STRONGROOM_TEST_SEED` repeats a
//! run. Whatever is asked, the reply is a refusal that is documented or the work done: no failure of ours, no panic, no
//! secret of the server, no growth. That each JSON reply is as described is checked where all replies are (`shapes`).

use super::support::{ADMIN, Answer, Asked, DR, PASSCODE, PASSWORD, World, ask};
use crate::endpoints::{ENDPOINTS, Endpoint, Kind};
use crate::openapi::schema::Schema;
use recovery::{Principal, Role};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use tokio::sync::RwLock;

const REQUESTS: u64 = 4000;
const TASKS: u64 = 4;
/// So often what was taken away is put back.
const REVIVE: u64 = 40;

const USERS: [(&str, Role); 3] =
    [("victor", Role::Viewer), ("olga", Role::Operator), ("admin", Role::Administrator)];

/// xorshift: the same seed, the same requests.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() >> 16) as usize % count
    }

    /// True once in `count` times.
    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, among: &[&'a T]) -> &'a T {
        among[self.below(among.len())]
    }
}

/// Names that hurt somebody somewhere.
const NAMES: &[&str] = &[
    "s1",
    "b1",
    "b2",
    "b3",
    "content",
    "victor",
    "olga",
    "admin",
    "new",
    "register",
    "create",
    "nope",
    "..",
    ".",
    "%",
    "%2e%2e",
    "a b",
    "ä",
    "\u{202e}evil",
    "\u{0}",
    "x'; DROP TABLE users; --",
    "<script>alert(1)</script>",
    "\"",
    "&",
    "{{7*7}}",
    "${jndi:x}",
    "\r\nSet-Cookie: a=b",
    "Invalid Token",
    "😀",
    "C:\\x",
    "con",
    "-rf",
    "*",
];

const VALUES: &[&str] = &[
    "",
    " ",
    "0",
    "-1",
    "1",
    "true",
    "False",
    "null",
    "None",
    "NaN",
    "1e9",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "4102444800000",
    "[]",
    "{}",
    "{\"type\":\"HOSTED\"}",
    "{\"default\":true}",
    "{\"default\":null}",
    "{\"type\":\"FILESYSTEM\",\"rootDir\":\"/etc\"}",
    "{\"type\":\"S3\",\"provider\":{\"cloudServices\":[{\"usage\":\"BACKUP\",\"connection\":{\"bucketName\":\"b\",\"endpointUrl\":\"http://127.0.0.1:1\",\"allowHttp\":true}}]}}",
    "{\"timeoutInSeconds\":60}",
    "{\"keepLast\":0}",
    "{\"metaData\":{\"retention\":{\"type\":\"month\",\"value\":100000}}}",
    "{\"a\":{\"a\":{\"a\":{}}}}",
    "*",
    "?",
    "*/7",
    "0-59/0",
    "SUN#3",
    "Europe/Berlin",
    "../../etc/passwd",
    "\u{feff}x",
];

/// Never stored unless as somebody's chosen text; not to be seen in any reply.
const SECRETS: [&str; 2] = [PASSCODE, PASSWORD];

struct Play {
    world: World,
    tokens: RwLock<[String; 3]>,
}

impl Play {
    async fn open() -> Self {
        let world = World::open().await.with_store().await;
        let tokens =
            [Role::Viewer, Role::Operator, Role::Administrator].map(|role| world.token(role).to_owned());
        let play = Self { world, tokens: RwLock::new(tokens) };
        for name in ["b1", "b2", "b3"] {
            let form = format!("name={name}&passcode={PASSCODE}");
            let made = play.world.run(&format!("{DR}/stores/s1/backups/create"), &form).await;
            play.world.wait(&made).await;
        }
        play
    }

    /// Puts back what requests took away, and takes away what grew. Failures do not matter: the next time.
    async fn revive(&self) {
        let recovery = &self.world.recovery;
        let mut tokens = self.tokens.write().await;
        for (place, (username, role)) in USERS.into_iter().enumerate() {
            if recovery.authenticate(&tokens[place]).await.expect("state").is_some_and(|one| one.role == role)
            {
                continue;
            }
            let password = SecretString::from(PASSWORD);
            let _ = recovery.add_user(username, &password, role).await;
            let _ = recovery.update_user(username, Some(role), Some(&password)).await;
            let principal = Principal::person(username.to_owned(), role);
            let (token, _) = recovery.issue_token(&principal, 60).await.expect("token");
            tokens[place] = token.expose_secret().to_owned();
        }
        let _ = recovery.set_mode(recovery::Mode::default()).await;
        for store in recovery.stores().await.expect("stores") {
            if store.name != "s1" {
                let _ = recovery.unregister_store(&store.name, true).await;
            }
        }
        for task in recovery.tasks().await.expect("tasks") {
            let _ = recovery.delete_task(&task.id).await;
        }
        for user in recovery.users().await.expect("users") {
            if USERS.iter().all(|(name, _)| *name != user.username) {
                let _ = recovery.remove_user(&user.username).await;
            }
        }
        let hosted = recovery::RegisterStore {
            name: "s1".to_owned(),
            place: recovery::StorePlace::Hosted,
            storage_config: serde_json::json!({}),
            default: true,
        };
        let _ = recovery.register_store(hosted).await;
        for backup in recovery.backups("s1").await.into_iter().flatten().skip(20) {
            let caller = recovery::Caller {
                username: "admin".to_owned(),
                operation_uri: String::new(),
                request_id: String::new(),
            };
            let _ = recovery.delete_backup("s1", &backup.name, false, caller).await;
        }
    }
}

fn path(dice: &mut Dice, endpoint: &Endpoint) -> String {
    let mut segments = vec!["strongroom".to_owned()];
    for pattern in endpoint.pattern() {
        segments.push(match pattern {
            "{store}" if !dice.one_in(4) => "s1".to_owned(),
            "{backup}" if !dice.one_in(4) => dice.pick(&["b1", "b2", "b3"]).to_owned(),
            "{user}" if !dice.one_in(4) => dice.pick(&["victor", "olga", "admin", "new"]).to_owned(),
            pattern if pattern.starts_with('{') => crate::path::encode(dice.pick(NAMES)),
            literal => literal.to_owned(),
        });
    }
    if dice.one_in(12) {
        let odd =
            ["", ".", "..", "%2e%2e", "%00", "%ff%fe", "%", "%2", "ADMIN", "a;b=c", "%2F", "x%0d%0ay", "+"];
        let (place, odd) = (dice.below(segments.len() + 1), dice.pick(&odd).to_owned());
        segments.insert(place, odd);
    }
    if dice.one_in(40) {
        segments.truncate(dice.below(segments.len()));
    }
    if dice.one_in(200) {
        segments.push("x".repeat(dice.below(6000)));
    }
    format!("/{}", segments.join("/"))
}

fn value(dice: &mut Dice, name: &str, schema: &Schema) -> String {
    if dice.one_in(5) {
        return match dice.below(3) {
            0 => dice.pick(NAMES).to_owned(),
            1 => dice.pick(VALUES).to_owned(),
            _ => "x".repeat(dice.below(3000)),
        };
    }
    match (name, schema) {
        ("passcode", _) => PASSCODE.to_owned(),
        ("password" | "newPassword", _) => PASSWORD.to_owned(),
        ("name" | "title", _) => format!("b{}", dice.below(50)),
        ("storeName", _) => dice.pick(&["s1", "s1", "s1", "s2", "s3"]).to_owned(),
        ("username", _) => dice.pick(&["victor", "olga", "admin", "new"]).to_owned(),
        ("isReadOnly", _) => dice.pick(&["false", "false", "false", "true"]).to_owned(),
        ("minute" | "hour", _) => dice.below(24).to_string(),
        ("dayOfMonth" | "month" | "dayOfWeek", _) => dice.pick(&["*", "?", "1"]).to_owned(),
        (_, Schema::Choice(among)) => dice.pick(among).to_owned(),
        (_, Schema::Boolean) => dice.pick(&["true", "false"]).to_owned(),
        (_, Schema::Integer { .. }) => dice.pick(&["1", "2", "30", "-1", "4102444800000"]).to_owned(),
        (_, Schema::Json(_)) => dice.pick(&VALUES[15..25]).to_owned(),
        _ => dice.pick(NAMES).to_owned(),
    }
}

/// Names and values: those of the operation, or others.
fn parameters(dice: &mut Dice, endpoint: &Endpoint) -> Vec<(String, String)> {
    let mut sent = Vec::new();
    let of_form = endpoint.kind.form().into_iter().flat_map(|form| form.parameters());
    for field in of_form.chain(endpoint.asks) {
        if !dice.one_in(if field.required { 15 } else { 3 }) {
            sent.push((field.name.to_owned(), value(dice, field.name, &field.takes)));
        }
    }
    match dice.below(8) {
        0 => {}
        1 => sent.push(("f".to_owned(), "html".to_owned())),
        2 => sent.push(("f".to_owned(), "pjson".to_owned())),
        3 if dice.one_in(4) => sent.push(("f".to_owned(), dice.pick(NAMES).to_owned())),
        _ => sent.push(("f".to_owned(), "json".to_owned())),
    }
    while dice.one_in(6) {
        let name =
            dice.pick(&["token", "csrf", "next", "f", "name", "callback", "oauth_state", "code", "x", ""]);
        sent.push((name.to_owned(), dice.pick(VALUES).to_owned()));
    }
    sent
}

fn form(sent: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(sent).finish()
}

/// The body, and what it says it is.
fn body(dice: &mut Dice, sent: &[(String, String)]) -> (&'static str, Vec<u8>) {
    // A secret that a torn body turns into a description is one no more.
    let (torn, mut sent) = (dice.one_in(15), sent.to_vec());
    sent.retain(|(_, value)| !torn || !SECRETS.contains(&value.as_str()));
    let (kind, mut body) = match dice.below(10) {
        0 => {
            let object: serde_json::Map<_, _> =
                sent.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
            ("application/json", serde_json::Value::Object(object).to_string().into_bytes())
        }
        1 => {
            let part = |(name, value): &(String, String)| {
                let name = name.replace(['"', '\r', '\n'], "");
                format!("--xx\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
            };
            let parts: String = sent.iter().map(part).collect();
            ("multipart/form-data; boundary=xx", format!("{parts}--xx--\r\n").into_bytes())
        }
        2 => {
            let odd = [
                "text/plain",
                "application/xml",
                "multipart/form-data",
                "image/png; =",
                "application/json",
                "",
            ];
            (dice.pick(&odd), form(&sent).into_bytes())
        }
        _ => ("application/x-www-form-urlencoded", form(&sent).into_bytes()),
    };
    if torn && !body.is_empty() {
        match dice.below(3) {
            0 => body.truncate(dice.below(body.len())),
            1 => {
                let place = dice.below(body.len());
                body[place] ^= 1 << dice.below(8);
            }
            _ => body.extend((0..dice.below(2000)).map(|n| (n * 131) as u8)),
        }
    }
    if dice.one_in(500) {
        body.resize(body.len() + (1 << 20), b'x');
    }
    (kind, body)
}

/// One request; nothing where no client of HTTP could send it.
fn request(dice: &mut Dice, tokens: &[String; 3]) -> Option<(Asked, String, &'static Endpoint)> {
    let endpoint = loop {
        let endpoint = &ENDPOINTS[dice.below(ENDPOINTS.len())];
        // Hashes of passwords are slow on purpose; there is a handler that fails on purpose; and a restore closes all
        // else for a while.
        let hashes = ["generateToken", "signin", "login", "password", "add"].contains(&endpoint.last());
        let seldom = hashes && !dice.one_in(20) || endpoint.last() == "restore" && !dice.one_in(4);
        if endpoint.last() != "failing" && !seldom {
            break endpoint;
        }
    };
    let works = matches!(endpoint.kind, Kind::Operation(_) | Kind::Program);
    let method = match dice.below(10) {
        0 => dice.pick(&["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "BREW"]),
        1..=7 if works => "POST",
        _ => dice.pick(&["GET", "POST"]),
    };
    let (mut path, sent) = (path(dice, endpoint), parameters(dice, endpoint));
    // A secret in the URL is the caller's own fault, and is refused.
    let in_query = method != "POST" || dice.one_in(10);
    if in_query {
        path = format!("{path}?{}", form(&sent));
    }
    path.parse::<hyper::Uri>().ok()?;
    let mut asked = ask(method, &path);
    let (kind, body) = if in_query { ("", Vec::new()) } else { body(dice, &sent) };
    let told = format!(
        "{method} {path} {kind} {}",
        String::from_utf8_lossy(&body).chars().take(3000).collect::<String>()
    );
    if !kind.is_empty() {
        asked = asked.header("content-type", kind);
    }
    if !body.is_empty() {
        asked = asked.body(body);
    }
    let mut token = tokens[dice.below(3)].clone();
    match dice.below(20) {
        0..=11 => asked = asked.token(&token),
        12 => {
            token.truncate(dice.below(token.len()));
            asked = asked.header("authorization", &format!("Bearer {token}"));
        }
        13 => asked = asked.header("authorization", "Basic YWRtaW46YWRtaW4="),
        14 => asked = asked.header("cookie", &format!("__Host-strongroom={token}; a=b; ;;=")),
        15 => {
            asked =
                asked.header("authorization", &format!("Bearer {token}")).header("accept", "application/json")
        }
        _ => {}
    }
    if dice.one_in(10) {
        let odd = ["null", "https://evil.example", "https://dr.example.org", "", "\u{e4}"];
        asked = asked.header("origin", dice.pick(&odd)).header("x-forwarded-for", "1.2.3.4, <b>");
    }
    Some((asked, told, endpoint))
}

fn judge(answer: &Answer, told: &str, endpoint: &Endpoint) {
    let status = answer.status.as_u16();
    // 404: outside of the context.
    assert!([200, 302, 303, 400, 404].contains(&status), "HTTP {status}: {told}");
    let kind = answer.header("content-type");
    let is_json = kind == "application/json";
    if is_json && !answer.text.is_empty() {
        let code = answer.code();
        assert!(code < 500 || [501, 503].contains(&code), "{told}\n{}", answer.text);
    } else if kind.starts_with("text/html") {
        let page = answer.text.trim_start().to_ascii_lowercase();
        assert!(page.is_empty() || page.starts_with("<!doctype html>"), "{told}\n{}", answer.text);
        assert!(
            !answer.text.contains(" INTERNAL") && !answer.text.contains("<script>alert"),
            "{told}\n{}",
            answer.text
        );
    } else {
        assert!(
            [
                "text/css",
                "text/javascript",
                "image/svg+xml",
                "application/openmetrics-text",
                "application/json",
                "application/octet-stream"
            ]
            .iter()
            .any(|one| kind.starts_with(one)),
            "{kind}: {told}"
        );
    }
    assert!(!answer.header("x-request-id").is_empty(), "{told}");
    for secret in SECRETS {
        // What somebody calls a backup is no secret of the server.
        assert!(!answer.text.contains(secret), "{} shows a secret: {told}\n{}", endpoint.path, answer.text);
    }
    assert!(
        answer
            .headers
            .get("set-cookie")
            .is_none_or(|cookie| !cookie.to_str().unwrap_or("\n").contains("a=b")),
        "{told}"
    );
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") / 1024
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_asked_is_done_or_refused_as_documented() {
    let asked_for = number("STRONGROOM_TEST_REQUESTS");
    let (count, seed) =
        (asked_for.unwrap_or(REQUESTS), number("STRONGROOM_TEST_SEED").unwrap_or_else(rand_seed));
    println!("{count} requests, STRONGROOM_TEST_SEED={seed}");
    let play = Arc::new(Play::open().await);
    let (begun, mut codes) = (std::time::Instant::now(), std::collections::BTreeMap::<u64, u64>::new());
    // A part first, so that what is kept for good is there.
    run(&play, seed, count / 4, &mut codes).await;
    let before = resident_mib();
    run(&play, seed ^ 0x5555, count - count / 4, &mut codes).await;
    let after = resident_mib();
    println!(
        "{:.0} s, {before} MiB before, {after} MiB after; by code: {codes:?}",
        begun.elapsed().as_secs_f64()
    );
    // Other tests run in this process, unless this one was asked for.
    let growth_max = if asked_for.is_some() { 100 } else { 400 };
    assert!(after < before + growth_max, "{before} MiB before, {after} MiB after");
    for code in [0, 400, 403, 404, 405, 498, 499] {
        assert!(codes.get(&code).is_some_and(|count| *count > 0), "no reply of code {code}: {codes:?}");
    }
    assert!(codes[&0] > count / 20, "{codes:?}");
}

fn rand_seed() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64) | 1
}

async fn run(play: &Arc<Play>, seed: u64, count: u64, codes: &mut std::collections::BTreeMap<u64, u64>) {
    let mut running = Vec::new();
    for task in 0..TASKS {
        let play = play.clone();
        running.push(tokio::spawn(async move {
            let mut dice = Dice(seed.wrapping_add(task + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let mut codes = std::collections::BTreeMap::<u64, u64>::new();
            for number in 0..count / TASKS {
                if number % REVIVE == 0 && task == 0 {
                    play.revive().await;
                }
                let tokens = play.tokens.read().await.clone();
                let Some((asked, told, endpoint)) = request(&mut dice, &tokens) else { continue };
                let answer = play.world.send(asked).await;
                judge(&answer, &told, endpoint);
                let is_json = answer.header("content-type") == "application/json" && !answer.text.is_empty();
                *codes.entry(if is_json { answer.code() } else { 0 }).or_default() += 1;
            }
            codes
        }));
    }
    for one in running {
        for (code, count) in one.await.expect("a request was answered in a way that must not be") {
            *codes.entry(code).or_default() += count;
        }
    }
    let jobs = play.world.ask(Role::Administrator, "GET", &format!("{ADMIN}/jobs?f=json"), "").await;
    assert!(matches!(jobs.code(), 0 | 498), "{}", jobs.text);
}
