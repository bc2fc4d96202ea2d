//! What clients ask the portal before they open its administration.

use super::support::{ADMIN, PUBLIC_URL, World, ask};
use recovery::Role;
use serde_json::json;

const REST: &str = "/strongroom/sharing/rest";

fn username(role: Role) -> &'static str {
    ["victor", "olga", "admin"][role as usize]
}

#[tokio::test]
async fn the_portal_names_its_user_to_those_who_have_a_token_and_none_to_others() {
    let world = World::open().await;
    let portal = format!("{REST}/portals/self?f=json");
    let anonymous = world.send(ask("GET", &portal)).await.json();
    for (key, value) in [
        ("portalName", json!("Strongroom")),
        ("portalDeploymentType", json!("ArcGISEnterpriseOnKubernetes")),
        ("name", json!("Strongroom")),
        ("isPortal", json!(true)),
        ("portalMode", json!("singletenant")),
        ("allSSL", json!(true)),
        ("currentVersion", json!("2025.1")),
    ] {
        assert_eq!(anonymous[key], value, "{key}");
    }
    let id = anonymous["id"].as_str().expect("id");
    assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert!(anonymous.get("user").is_none());
    for role in [Role::Viewer, Role::Operator, Role::Administrator] {
        let token = world.token(role);
        for asked in [
            ask("GET", &portal).token(token),
            ask("POST", &portal).token(token),
            ask("GET", &format!("{portal}&token={token}")),
            ask("GET", &portal).header("authorization", &format!("Bearer {token}")),
        ] {
            let mut known = world.send(asked).await.json();
            let user = known.as_object_mut().expect("object").remove("user").expect("user");
            assert_eq!(user["username"], username(role));
            assert_eq!(known, anonymous, "all else is the same");
        }
    }
    for method in ["GET", "POST"] {
        let bad = world.send(ask(method, &portal).token("nonsense")).await;
        assert_eq!((bad.status.as_u16(), bad.code()), (200, 498));
        assert_eq!(bad.json()["error"]["message"], "Invalid Token");
        assert!(bad.headers.get("www-authenticate").is_none());
    }
    assert!(!anonymous.to_string().contains(PUBLIC_URL), "nothing that the caller does not know");
}

#[tokio::test]
async fn users_see_themselves_with_what_opens_the_administration_in_known_clients() {
    let world = World::open().await;
    for role in [Role::Viewer, Role::Operator, Role::Administrator] {
        let name = username(role);
        let path = format!("{REST}//community/self?returnUserLicensedItems=true");
        let myself = world.ask(role, "GET", &path, "f=json").await.json();
        assert_eq!(
            (&myself["username"], &myself["id"], &myself["fullName"]),
            (&json!(name), &json!(name), &json!(name))
        );
        assert_eq!(myself["groups"], json!([]));
        let privileges = myself["privileges"].as_array().expect("privileges");
        assert!(
            privileges.iter().any(|one| one.as_str().is_some_and(|one| one.contains(":admin:"))),
            "{myself}"
        );
        let expected = if role == Role::Administrator { "org_admin" } else { "org_publisher" };
        assert_eq!(myself["role"], expected);
        for method in ["GET", "POST"] {
            let one = world.ask(role, method, &format!("{REST}/community/users/{name}/"), "f=json").await;
            assert_eq!(one.json(), myself);
        }
        assert_eq!(world.ask(role, "GET", &format!("{ADMIN}?f=json"), "").await.code(), 0);
    }
}

#[tokio::test]
async fn only_administrators_see_others_and_nobody_else_learns_whether_they_are_there() {
    let world = World::open().await;
    let user = |name: &str| format!("{REST}/community/users/{name}?f=json");
    let seen = world.ask(Role::Administrator, "GET", &user("victor"), "").await.json();
    assert_eq!((&seen["username"], &seen["role"]), (&json!("victor"), &json!("org_publisher")));
    for role in [Role::Viewer, Role::Operator] {
        for name in ["admin", "nobody", "VICTOR"] {
            let refused = world.ask(role, "GET", &user(name), "").await.json();
            let message = format!("There is no user '{name}', or you may not see it.");
            assert_eq!(refused["error"]["messageCode"], "USER_NOT_FOUND");
            assert_eq!(refused["error"]["message"], message);
        }
    }
    assert_eq!(world.ask(Role::Administrator, "GET", &user("nobody"), "").await.code(), 404);
}
