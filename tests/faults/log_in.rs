//! The log-in of programs, step by step, with a server that dies in between.

use serde_json::Value;
use strongroom_tests::client::Client;
use strongroom_tests::server::{ADMIN, Options, PASSWORD, Site};

/// A token that works.
#[track_caller]
fn works(site: &Site, token: &str) {
    let mut client = site.stranger();
    client.token = Some(token.to_owned());
    client.get("admin").unwrap().ok();
}

fn exchange(client: &Client, grant: &str, name: &str, value: &str) -> Value {
    let redirect = ("redirect_uri", "urn:ietf:wg:oauth:2.0:oob");
    let fields = [("grant_type", grant), ("client_id", "test"), (name, value), redirect];
    client.post("sharing/rest/oauth2/token", &fields).unwrap().json
}

#[test]
fn a_program_logs_in_although_the_server_dies_between_any_two_steps() {
    let site = Site::new(Options::default());
    let mut server = site.start();
    let client = site.stranger();
    let pages = ["token", "code"].map(|kind| client.authorize(kind));
    server.kill();
    server = site.start();
    let [token, code] = pages.map(|page| client.sign_in(&page, ADMIN, PASSWORD));
    server.kill();
    server = site.start();
    works(&site, &token);
    let reply = exchange(&client, "authorization_code", "code", &code);
    server.kill();
    server = site.start();
    works(&site, reply["access_token"].as_str().unwrap());
    let again = exchange(&client, "authorization_code", "code", &code);
    assert_eq!(again["error"]["error"], "invalid_grant", "used before the kill: {again}");
    let reply = exchange(&client, "refresh_token", "refresh_token", reply["refresh_token"].as_str().unwrap());
    works(&site, reply["access_token"].as_str().unwrap());
    assert!(server.stop().success());
}
