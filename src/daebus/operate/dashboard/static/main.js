// The page as a whole: which view is open, what the server tells, and whether it is there.

import { el, write } from "./elements.js";
import { listen } from "./feed.js";
import { History } from "./history.js";
import { queuesView } from "./queues.js";
import { serviceView } from "./service.js";
import { servicesView } from "./services.js";

const main = document.getElementById("main");
const banner = document.getElementById("banner");
const state = document.getElementById("state");
const history = new History();
const page = { about: null, fleet: null, view: null, hash: null };

/** The view that the address bar names: #/, #/service/NAME or #/queues. */
function viewOf(hash) {
  const [, kind, name] = hash.split("/");
  if (kind === "service" && name) return serviceView(decoded(name), page.about);
  return kind === "queues" ? queuesView(page.about) : servicesView(page.about);
}

function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

function open() {
  // Told twice where the address changes while the page is loading.
  if (!page.about || page.hash === location.hash) return;
  page.hash = location.hash;
  page.view?.close?.();
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  page.view = viewOf(location.hash);
  main.replaceChildren(page.view.node);
  document.title = `${page.view.title} · daebus`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === page.view.name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  show();
}

function show() {
  if (page.fleet) page.view?.show(page.fleet, history);
}

function say(kind, word, trouble) {
  state.dataset.kind = kind;
  write(state, word);
  banner.hidden = !trouble;
  write(banner, trouble ?? "");
}

listen({
  hello(about) {
    const isFirst = page.about === null;
    page.about = about;
    history.reset(about.points);
    write(document.getElementById("server"), about.server);
    document.body.classList.toggle("read-only", about.is_read_only);
    if (isFirst) open();
  },
  fleet({ fleet, point }) {
    page.fleet = fleet;
    history.add(point);
    if (fleet.trouble) say("away", "server away", `${fleet.trouble}. What you see is the last that was known.`);
    else say("live", "live", null);
    show();
  },
  lost() {
    say("lost", "reconnecting", "No connection to the dashboard; it is tried again. Is 'daebus dashboard' still running?");
  },
  refused() {
    say("lost", "no access", null);
    banner.hidden = false;
    banner.replaceChildren("The dashboard was started again and wants its new token. ",
      el("a", { href: "/" }, "Give it"), ", or open the address that it printed.");
  },
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // The address names the view.
  main.focus();
});

addEventListener("hashchange", () => {
  open();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});

main.append(el("p", { class: "empty" }, "Looking for services …"));
