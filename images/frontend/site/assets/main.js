// The page asks the application behind the same address; every text goes in as text, never as markup.
const about = document.querySelector("#about");
const section = document.querySelector("#plan");

async function info() {
  try {
    const { version, environment, backends, agents } = await (await fetch("/api/v1/info")).json();
    about.textContent = `Version ${version}${environment ? ` in ${environment}` : ""}, backends: ${backends.join(", ") || "none"}, agents: ${agents.join(", ") || "none"}.`;
  } catch {
    about.textContent = "The application does not answer.";
  }
}

function row(step) {
  const line = document.createElement("tr");
  line.className = step.ok ? "" : "failed";
  for (const text of [step.component, step.backend, `${(step.seconds * 1000).toFixed(1)} ms`, step.ok ? "ok" : step.error]) {
    line.insertCell().textContent = text;
  }
  return line;
}

document.querySelector("#profile").addEventListener("submit", async (event) => {
  event.preventDefault();
  const profile = Object.fromEntries(new FormData(event.target));
  const response = await fetch("/api/v1/transaction", { method: "POST", body: JSON.stringify({ profile }) });
  const answer = await response.json();
  section.hidden = false;
  section.querySelector("pre").textContent = answer.error ?? JSON.stringify(answer.plan, null, 2);
  section.querySelector("tbody").replaceChildren(...(answer.steps ?? []).map(row));
});

info();
