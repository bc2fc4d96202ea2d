// A person at the console: goes the whole way through it in a real browser, with scripts and without, and looks at every
// page in both themes, wide and on a phone. What is wrong is printed, line by line; the end is "looked at N pages".
//
//   node console.mjs '{"modules", "browser", "url", "username", "password", "passcode", "store", "other", "bucket",
//                      "content", "shots"}'
import { createRequire } from "node:module";
import fs from "node:fs";
import path from "node:path";

const given = JSON.parse(process.argv[2]);
const require = createRequire(`${given.modules}/`);
const { chromium } = require("playwright-core");
const axe = require("axe-core").source;

const PAGE_BYTES_MAX = 100_000;
const WAIT = { timeout: 120_000 };
const WIDE = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };

// Where the head of a table is not shown, or its lines are not, each value in it says what it is. Nested tables have no head.
const LABELLED = `[...document.querySelectorAll("table:has(thead)")].filter((table) => table.checkVisibility()).every((table) => {
  const whole = getComputedStyle(table.tBodies[0].rows[0] || table).display !== "block";
  const headless = !table.tHead.checkVisibility();
  const values = [...table.querySelectorAll("tbody td:not([colspan]):not(:empty)")];
  return whole ? !headless : headless && values.every((value) => value.dataset.title);
})`;

const problems = new Set();
const wrong = (what) => problems.add(what);
const must = (holds, what) => holds || wrong(what);
let looks = 0;

const browser = await chromium.launch({ executablePath: given.browser, args: ["--no-sandbox"] });

class Person {
  static async comes(scripts) {
    const person = new Person();
    person.scripts = scripts;
    person.context = await browser.newContext({
      ignoreHTTPSErrors: true, javaScriptEnabled: scripts, viewport: WIDE, acceptDownloads: true,
    });
    person.page = await person.context.newPage();
    person.page.setDefaultTimeout(WAIT.timeout);
    const ours = new URL(given.url).origin;
    person.context.on("request", (request) => {
      if (new URL(request.url()).origin !== ours) wrong(`a request to another host: ${request.url()}`);
    });
    person.page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) wrong(`${person.page.url()} says: ${message.text()}`);
    });
    person.page.on("pageerror", (error) => wrong(`${person.page.url()}: ${error}`));
    person.page.on("response", async (response) => {
      if (!(response.headers()["content-type"] || "").startsWith("text/html") || response.status() !== 200) return;
      const bytes = (await response.body().catch(() => "")).length;
      must(bytes < PAGE_BYTES_MAX, `${response.url()} has ${bytes} bytes`);
    });
    return person;
  }

  async goes(to) {
    await this.page.goto(to.startsWith("http") ? to : given.url + to);
  }

  // Looks at the page: both themes, wide and narrow, and by axe, which needs scripts.
  async looks(name) {
    looks += 1;
    const { page } = this;
    if (!this.scripts) {
      await this.shot(`${name}-without-scripts`);
      return;
    }
    for (const [size, viewport, colorScheme] of [["wide", WIDE, "light"], ["wide", WIDE, "dark"], ["phone", PHONE, "light"]]) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      const over = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
      must(over <= 0, `${name} is ${over} too wide on a ${size} screen`);
      must(await page.evaluate(LABELLED), `${name}: a table says not of each value what it is on a ${size} screen`);
      const found = await page.evaluate(`window.axe || ${axe}; axe.run(document, { resultTypes: ["violations"] })`);
      for (const rule of found.violations) {
        const nodes = rule.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.any.map((a) => a.message).join(" ")}`);
        wrong(`${name}, ${size}, ${colorScheme}: ${rule.id}: ${rule.help}: ${nodes.join(" | ")}`);
      }
      await this.shot(`${name}-${size}-${colorScheme}`);
    }
    await page.setViewportSize(WIDE);
    await page.emulateMedia({ colorScheme: "light" });
  }

  async shot(name) {
    await this.page.screenshot({ path: path.join(given.shots, `${name}.png`), fullPage: true });
  }

  async clicks(name) {
    await this.page.getByRole("link", { name, exact: true }).first().click();
  }

  async fills(fields) {
    for (const [label, value] of Object.entries(fields)) {
      await this.page.getByLabel(label, { exact: true }).fill(value);
    }
  }

  async sends(button) {
    await this.page.getByRole("button", { name: button, exact: true }).click();
  }

  async signsIn() {
    await this.goes("/admin");
    await this.looks("sign-in");
    await this.fills({ "User name": given.username, Password: given.password });
    await this.sends("Sign in");
    await this.page.getByRole("heading", { name: "Stores" }).or(this.page.getByText("Not protected")).first().waitFor();
  }

  // The page of a job moves by itself to its end.
  async followsTheJob(name) {
    await this.page.waitForURL(/\/admin\/jobs\//);
    if (this.scripts) await this.shot(`${name}-at-work`);
    await this.page.locator("#state", { hasText: "success" }).waitFor(WAIT);
    await this.looks(name);
  }

  // Registers a directory by plain fields: refused first, then done.
  async registersADirectory(name, directory) {
    await this.goes("/admin/system/disasterrecovery/stores");
    await this.clicks("Register a backup store");
    await this.looks("register-a-store");
    await this.clicks("Directory of your own");
    await this.looks("register-a-directory");
    await this.fills({ Name: name, Directory: "/etc/passwd" });
    await this.page.getByLabel("Default store").check();
    await this.sends("Register");
    await this.page.getByRole("alert").waitFor();
    await this.looks("register-a-directory-refused");
    must(await this.page.getByLabel("Name", { exact: true }).inputValue() === name, "the name is there still");
    must(await this.page.getByLabel("Default store").isChecked(), "the box is ticked still");
    await this.fills({ Directory: directory });
    await this.sends("Register");
    await this.page.waitForURL(new RegExp(`/stores/${name}$`));
  }

  // The same with a bucket. Without scripts the fields of all rights are there.
  async registersABucket(name, { bucket, endpoint, accessKey, secretKey }) {
    await this.goes("/admin/system/disasterrecovery/stores/register");
    await this.clicks("Amazon S3, or what speaks its language");
    const key = this.page.getByLabel("Secret key");
    await this.page.getByLabel("Whose rights").selectOption("IAM-ROLE");
    must(await key.isVisible() === !this.scripts, "fields of other rights are hidden by the script alone");
    await this.page.getByLabel("Whose rights").selectOption("ACCESS-KEY");
    await this.looks("register-a-bucket");
    await this.fills({ Name: name, Bucket: "x", "Address of the service": endpoint, "Directory in it": name });
    await this.fills({ "Access key": accessKey, "Secret key": secretKey });
    await this.sends("Register");
    await this.page.getByRole("alert").waitFor();
    await this.looks("register-a-bucket-refused");
    must(await key.inputValue() === "", "no secret comes back");
    await this.fills({ Bucket: bucket, "Secret key": secretKey });
    await this.sends("Register");
    await this.page.waitForURL(new RegExp(`/stores/${name}$`));
    await this.looks("bucket");
    await this.clicks("Update");
    await this.looks("update-a-bucket");
    await this.page.getByLabel("Whose rights").selectOption("ACCESS-KEY");
    await this.fills({ "Access key": accessKey, "Secret key": secretKey });
    await this.sends("Update");
    await this.page.waitForURL(new RegExp(`/stores/${name}$`));
  }

  async makesABackup(name) {
    await this.goes("/admin/system/disasterrecovery/stores/main/backups/create");
    await this.looks("create-a-backup");
    await this.fills({ Name: name, Passcode: given.passcode, "Keep for days": "30", Description: "Before the upgrade" });
    await this.sends("Create backup");
    await this.followsTheJob("job");
  }

  // Opens a backup, walks to the content and downloads a file.
  async readsAFile(backup) {
    await this.goes(`/admin/system/disasterrecovery/stores/main/backups/${backup}`);
    await this.looks("backup");
    await this.clicks("Look at its files");
    await this.fills({ Passcode: "not the passcode" });
    await this.sends("Open");
    await this.page.getByRole("alert").waitFor();
    await this.looks("wrong-passcode");
    await this.fills({ Passcode: given.passcode });
    await this.sends("Open");
    await this.looks("components");
    await this.page.getByRole("link", { name: /^content: / }).click();
    await this.looks("files");
    await this.clicks("More");
    await this.clicks("reports/");
    await this.page.getByRole("navigation", { name: "Directories above" }).waitFor();
    const [download] = await Promise.all([
      this.page.waitForEvent("download"),
      this.clicks("März <b>&.txt"),
    ]);
    must(download.suggestedFilename() === "März _b_&.txt" || download.suggestedFilename() === "März <b>&.txt",
      `the file is called ${download.suggestedFilename()}`);
    const read = fs.readFileSync(await download.path());
    const there = fs.readFileSync(path.join(given.content, "reports/März <b>&.txt"));
    must(read.equals(there), "the file was downloaded as it is");
    await this.sends("Close this backup");
    await this.page.waitForURL(new RegExp(`/backups/${backup}$`));
  }

  async restores(backup) {
    const file = path.join(given.content, "reports/plain.txt");
    const before = fs.readFileSync(file);
    fs.writeFileSync(file, "damaged");
    await this.goes(`/admin/system/disasterrecovery/stores/main/backups/${backup}`);
    await this.clicks("Restore");
    await this.looks("restore");
    await this.fills({ Passcode: given.passcode });
    await this.sends("Show what would change");
    await this.page.getByRole("region", { name: "What would change" }).waitFor();
    await this.page.getByText("Changed in content").click();
    must(await this.page.getByText("reports/plain.txt", { exact: true }).isVisible(), "what would change is told by name");
    await this.looks("what-would-change");
    await this.fills({ "Name of the backup": backup, Passcode: given.passcode });
    await this.sends("Restore now");
    await this.followsTheJob("restored");
    must(fs.readFileSync(file).equals(before), "the file is as it was");
  }

  // A drill, and what it proved.
  async drills(backup) {
    await this.goes(`/admin/system/disasterrecovery/stores/main/backups/${backup}`);
    await this.clicks("Drill");
    await this.looks("drill");
    await this.fills({ Passcode: given.passcode });
    await this.sends("Begin the drill");
    await this.followsTheJob("drilled");
    await this.goes(`/admin/system/disasterrecovery/stores/main/backups/${backup}`);
    must((await this.page.textContent("main")).includes("Recovery took"), "the page says how long a recovery takes");
    await this.looks("drilled-backup");
    await this.clicks("Drills");
    await this.looks("drills");
  }

  // A day for a backup, and for ever: refused together, then done.
  async keepsLonger(backup) {
    await this.goes(`/admin/system/disasterrecovery/stores/main/backups/${backup}/update`);
    await this.looks("update-a-backup");
    await this.fills({ "Keep until": "2099-02-28", "Or: keep for days": "3" });
    await this.sends("Update");
    await this.page.getByRole("alert").waitFor();
    await this.looks("update-a-backup-refused");
    must(await this.page.getByLabel("Keep until", { exact: true }).inputValue() === "2099-02-28", "the day is there still");
    await this.fills({ "Or: keep for days": "" });
    await this.sends("Update");
    await this.page.waitForURL(new RegExp(`/backups/${backup}$`));
    must((await this.page.textContent("main")).includes("2099-02-28"), "the backup is kept until that day");
  }

  // The settings by plain fields: refused first, then done.
  async changesTheSettings() {
    await this.goes("/admin/system/disasterrecovery/settings/update");
    await this.looks("update-the-settings");
    await this.fills({ "Longest time of a backup, in minutes": "240", "Size of the staging volume": "big" });
    await this.sends("Update");
    await this.page.getByRole("alert").waitFor();
    await this.looks("update-the-settings-refused");
    await this.fills({ "Size of the staging volume": "64Gi" });
    await this.sends("Update");
    await this.page.waitForURL(/\/disasterrecovery\/settings$/);
  }

  async signsOut() {
    await this.sends("Sign out");
    await this.page.getByLabel("User name").waitFor();
    await this.goes("/admin/jobs");
    must(await this.page.getByLabel("User name").isVisible(), "nobody is signed in any more");
    await this.context.close();
  }
}

const one = await Person.comes(true);
await one.signsIn();
await one.looks("start-of-nothing");
await one.registersADirectory("main", given.store);
if (given.bucket) await one.registersABucket("cloud", { ...given.bucket, bucket: given.bucket.buckets[0] });
await one.goes("/admin/system/disasterrecovery/stores/main/backups");
await one.looks("no-backups");
await one.makesABackup("first");
fs.appendFileSync(path.join(given.content, "reports/plain.txt"), "more\n");
await one.makesABackup("second");
await one.goes("/admin/system/disasterrecovery/stores/main/backups");
await one.looks("backups");
await one.clicks("30 days");
await one.page.getByText("The same as a table").click();
await one.looks("backups-of-30-days");
await one.readsAFile("second");
await one.restores("second");
await one.drills("second");
await one.keepsLonger("second");
await one.changesTheSettings();
await one.goes("/admin/system/tasks/createTask");
await one.looks("create-a-task");
await one.fills({ Title: "Each night", "Name of the backups": "nightly", Store: "main", Passcode: given.passcode });
await one.sends("Create this task");
await one.goes("/admin/keys/create");
await one.looks("create-a-key");
await one.fills({ Name: "nightly checks", "Good for so many days": "9" });
await one.sends("Create this key");
await one.goes("/admin/keys/nightly%20checks");
await one.looks("key");
await one.goes(`/admin/users/${given.username}`);
await one.looks("user");
await one.goes("/admin/system/tasks");
await one.clicks("Each night");
await one.looks("task");
for (const [name, at] of Object.entries({
  start: "/admin",
  stores: "/admin/system/disasterrecovery/stores",
  store: "/admin/system/disasterrecovery/stores/main",
  "all-backups": "/admin/system/disasterrecovery/backuprestore/backups",
  tasks: "/admin/system/tasks",
  jobs: "/admin/jobs",
  users: "/admin/users",
  keys: "/admin/keys",
  audit: "/admin/audit",
  settings: "/admin/system/disasterrecovery/settings",
  mode: "/admin/mode",
  "not-there": "/admin/nothing",
})) {
  await one.goes(at);
  await one.looks(name);
}
await one.signsOut();

const other = await Person.comes(false);
await other.signsIn();
await other.registersADirectory("second", given.other);
if (given.bucket) await other.registersABucket("cloud-2", { ...given.bucket, bucket: given.bucket.buckets[1] });
await other.makesABackup("third");
await other.goes("/admin/system/disasterrecovery/stores/main/backups");
await other.looks("backups");
await other.readsAFile("third");
await other.restores("third");
await other.signsOut();

await browser.close();
for (const problem of problems) console.log(problem);
console.log(`looked at ${looks} pages`);
process.exit(problems.size ? 1 : 0);
