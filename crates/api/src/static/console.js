// What the pages do by themselves where scripts run. Without this file every page works all the same.
"use strict";

(() => {
  const job = document.getElementById("job");
  if (job) follow(job);
  once(document.querySelectorAll("form[method=post]"));
  const rights = document.getElementById("credentialType");
  if (rights) choose(rights, document.querySelectorAll("fieldset[data-of]"));

  // Follows a running job, and shows its page anew once it has ended or nothing more is heard of it.
  function follow(job) {
    const again = () => location.reload();
    const events = new EventSource(job.dataset.events);
    let stage = "";
    events.addEventListener("job", (event) => {
      const now = JSON.parse(event.data);
      const progress = now.progress;
      text("state", `${document.querySelector("h1").textContent.split(" of ")[0]} · ${words(now.state)}`);
      rows(now.stages);
      if (!progress) return;
      document.getElementById("bar").value = progress.percent;
      text("percent", `${progress.percent} %`);
      text("doing", now.doing || "");
      // Read aloud at each stage, not at each percent.
      if (progress.stage !== stage) text("told", stage = progress.stage);
    });
    events.addEventListener("end", () => {
      events.close();
      again();
    });
    events.addEventListener("error", () => {
      // A stream that only broke off is asked for again by the browser; this one was refused.
      if (events.readyState === EventSource.CLOSED) setTimeout(again, 3000);
    });
    addEventListener("pagehide", () => events.close());
  }

  function rows(stages) {
    const body = document.getElementById("stages");
    if (!body || !stages) return;
    stages.forEach((stage, place) => {
      const row = body.rows[place] || body.insertRow();
      while (row.cells.length < 3) row.append(document.createElement(row.cells.length ? "td" : "th"));
      row.cells[0].scope = "row";
      row.cells[0].textContent = stage.name;
      row.cells[1].textContent = words(stage.state);
      row.cells[2].textContent = ["pending", "skipped"].includes(stage.state) ? "" : took(stage.duration);
    });
  }

  // "1234 millis (~ 0 minutes)" as the page tells it.
  function took(duration) {
    const ms = parseInt(duration, 10);
    if (ms < 1000) return `${ms} ms`;
    if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
    return `${Math.floor(ms / 60000)} min ${Math.floor(ms / 1000) % 60} s`;
  }

  function words(state) {
    return state.replaceAll("_", " ");
  }

  function text(id, told) {
    const element = document.getElementById(id);
    if (element && element.textContent !== told) element.textContent = told;
  }

  // Of the fields of a credential those are shown, and sent, that belong to the chosen rights.
  function choose(rights, groups) {
    const show = () => {
      for (const group of groups) group.hidden = group.disabled = group.dataset.of !== rights.value;
    };
    rights.addEventListener("change", show);
    // Back in the history the page comes with what was chosen.
    addEventListener("pageshow", show);
    show();
  }

  // A second click on a button does not send its form a second time.
  function once(forms) {
    for (const form of forms) {
      form.addEventListener("submit", (event) => {
        if (form.dataset.sent) event.preventDefault();
        form.dataset.sent = "yes";
      });
    }
    // Back in the history the page comes as it was left.
    addEventListener("pageshow", () => forms.forEach((form) => delete form.dataset.sent));
  }
})();
