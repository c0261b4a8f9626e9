// Elements of the page. Text gets in by textContent alone, so nothing from the wire is ever markup.

/**
 * Make an element: attributes are set as they are, `onclick` and the like become listeners,
 * children are elements or text; null and false are left out.
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== false));
  return node;
}

/** The same for a part of a drawing. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Set a node's text, if it is another one: what is selected or read aloud stays as it is. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Keep the children of a node in step with a list: one child for each key, made once, shown anew
 * with each list, in its order.
 *
 * `make(item)` gives `{node, show(item)}`.
 */
export function eachOf(parent, keyOf, make) {
  const shown = new Map();
  return (items) => {
    const keys = new Set(items.map(keyOf));
    for (const [key, { node }] of shown) {
      if (!keys.has(key)) {
        node.remove();
        shown.delete(key);
      }
    }
    let before = null;
    for (const item of items) {
      const key = keyOf(item);
      if (!shown.has(key)) shown.set(key, make(item));
      const { node, show } = shown.get(key);
      const place = before ? before.nextSibling : parent.firstChild;
      if (node !== place) parent.insertBefore(node, place);
      show(item);
      before = node;
    }
  };
}
