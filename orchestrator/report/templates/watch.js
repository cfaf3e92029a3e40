"use strict";
// Asks for the page's inside every two seconds and puts it in place when it has changed. What the reader
// has opened stays open, and what has the focus keeps it.
const main = document.getElementById("main");
const stale = document.getElementById("stale");
let shown = "";
let seen = new Date();

function keyOf(element) {
  return element.closest("figure")?.id || element.id;
}

function replace(html) {
  const open = [...main.querySelectorAll("details[open]")].map(keyOf);
  const scrolled = [...main.querySelectorAll(".scroll")].map((box) => [box.ariaLabel, box.scrollTop]);
  const active = document.activeElement;
  const focused = active && main.contains(active)
    ? [active.tagName, active.closest("details") && keyOf(active.closest("details"))] : null;
  main.innerHTML = html;
  for (const details of main.querySelectorAll("details")) {
    details.open = open.includes(keyOf(details));
    if (focused && focused[1] === keyOf(details)) {
      details.querySelector(focused[0])?.focus({ preventScroll: true });
    }
  }
  for (const [label, top] of scrolled) {
    const box = [...main.querySelectorAll(".scroll")].find((each) => each.ariaLabel === label);
    if (box) box.scrollTop = top;
  }
}

async function look() {
  try {
    const answer = await fetch("inside.html", { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const html = await answer.text();
    if (html !== shown) replace(html);
    shown = html;
    seen = new Date();
    stale.hidden = true;
  } catch {
    stale.textContent = `toscore watch does not answer. What you see is from ${seen.toLocaleTimeString()}.`;
    stale.hidden = false;
  }
  setTimeout(look, 2000);
}

look();
