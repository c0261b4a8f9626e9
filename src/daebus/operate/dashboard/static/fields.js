// Fields for a JSON Schema: one for each simple property, and JSON for whatever is not simple.
//
// A field gives JSON text, not a value, so that what is typed is what is sent.

import { el } from "./elements.js";

const PATTERNS = { integer: "-?\\d+", number: "-?\\d+(\\.\\d+)?([eE][+\\-]?\\d+)?" };
const EXAMPLES = { "date-time": "2026-01-31T12:00:00Z", date: "2026-01-31", time: "12:00:00", uuid: "a UUID" };
const MOST_FIELDS = 40;

/**
 * The fields for the properties of a schema, or null where it has none that can be fields.
 *
 * `text(between)` gives the payload as JSON text, with this between the parts, and throws where a
 * field is wrong.
 */
export function fieldsFor(schema, schemas) {
  const whole = resolved(schema, schemas).schema;
  const properties = Object.entries(whole.properties ?? {});
  if (properties.length > MOST_FIELDS || (properties.length === 0 && whole.type !== "object")) return null;
  if (properties.length === 0 && whole.additionalProperties) return null;
  const required = new Set(whole.required ?? []);
  const fields = properties.map(([name, property]) => field(name, property, required.has(name), schemas));
  return {
    nodes: fields.map((each) => each.node),
    isEmpty: fields.length === 0,
    text(between = " ") {
      const parts = fields.map((each) => [each.name, each.text()]).filter(([, text]) => text !== null);
      const lines = parts.map(([name, text]) => between + JSON.stringify(name) + ": " + text);
      return lines.length ? `{${lines.join(",")}${between[0]}}` : "{}";
    },
  };
}

/** A schema without references, and whether it allows null. */
function resolved(schema, schemas, depth = 0) {
  const from = (reference) => schemas[reference.split("/").at(-1)] ?? {};
  if (depth > 10 || typeof schema !== "object" || schema === null) return { schema: {}, isNullable: false };
  if (schema.$ref) {
    const { $ref: reference, ...rest } = schema;
    const inner = resolved(from(reference), schemas, depth + 1);
    return { ...inner, schema: { ...inner.schema, ...rest } };
  }
  if (Array.isArray(schema.anyOf)) {
    const kinds = schema.anyOf.filter((kind) => kind.type !== "null");
    const { anyOf, ...rest } = schema;
    if (kinds.length === 1) {
      const inner = resolved(kinds[0], schemas, depth + 1);
      return { schema: { ...inner.schema, ...rest }, isNullable: kinds.length < anyOf.length || inner.isNullable };
    }
    return { schema, isNullable: kinds.length < anyOf.length };
  }
  if (Array.isArray(schema.type)) {
    const kinds = schema.type.filter((kind) => kind !== "null");
    const isNullable = kinds.length < schema.type.length;
    return { schema: { ...schema, type: kinds.length === 1 ? kinds[0] : undefined }, isNullable };
  }
  return { schema, isNullable: false };
}

function field(name, property, isRequired, schemas) {
  const { schema, isNullable } = resolved(property, schemas);
  const input = inputFor(schema, isRequired, isNullable);
  const hasDefault = Object.hasOwn(schema, "default");
  const id = `field-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  input.node.id = id;
  const hints = [
    schema.description,
    schema.enum || schema.type ? null : "any JSON",
    isRequired ? null : hasDefault ? `left out, it is ${JSON.stringify(schema.default)}` : "may be left out",
    bounds(schema),
  ].filter(Boolean).join("; ");
  const hint = el("small", { class: "dim", id: `${id}-hint` }, hints);
  if (hints) input.node.setAttribute("aria-describedby", hint.id);
  const node = el("div", { class: input.isInline ? "field inline" : "field" },
    el("label", { for: id }, el("bdi", {}, name), " ",
      el("span", { class: "kind" }, `${kindOf(schema)}${isNullable ? " or null" : ""}`)),
    input.node, hint);
  return { name, node, text: () => input.text(name) };
}

const kindOf = (schema) => schema.enum ? "choice" : schema.format ?? schema.type ?? "JSON";

function bounds(schema) {
  const least = schema.minimum ?? (schema.exclusiveMinimum !== undefined ? `more than ${schema.exclusiveMinimum}` : null);
  const most = schema.maximum ?? (schema.exclusiveMaximum !== undefined ? `less than ${schema.exclusiveMaximum}` : null);
  if (least !== null && most !== null) return `${least} to ${most}`;
  return least !== null ? `${least} or more` : most !== null ? `${most} or less` : null;
}

function inputFor(schema, isRequired, isNullable) {
  if (Array.isArray(schema.enum)) return choice(schema.enum, isRequired, isNullable);
  if (schema.type === "boolean" && isRequired && !isNullable) return checkbox();
  if (schema.type === "boolean") return choice([true, false], isRequired, isNullable);
  if (schema.type === "integer" || schema.type === "number") return figure(schema.type, isRequired, isNullable);
  if (schema.type === "string") return line(schema, isRequired, isNullable);
  return json(isRequired);
}

function checkbox() {
  const node = el("input", { type: "checkbox" });
  return { node, isInline: true, text: () => String(node.checked) };
}

function choice(values, isRequired, isNullable) {
  const texts = values.map((value) => JSON.stringify(value));
  if (isNullable) texts.push("null");
  const node = el("select", {},
    isRequired ? null : el("option", { value: "" }, "left out"),
    ...texts.map((text, number) => el("option", { value: text },
      typeof values[number] === "string" ? values[number] : text)));
  return { node, text: () => node.value || null };
}

function figure(type, isRequired, isNullable) {
  const node = el("input", {
    type: "text", inputmode: type === "integer" ? "numeric" : "decimal", autocomplete: "off",
    pattern: isNullable ? `${PATTERNS[type]}|null` : PATTERNS[type],
    title: type === "integer" ? "a whole number" : "a number",
    required: isRequired,
  });
  // JSON allows no leading zeros.
  const tidy = (text) => text.replace(/^(-?)0+(?=\d)/, "$1");
  return { node, text: () => node.value.trim() === "" ? null : tidy(node.value.trim()) };
}

function line(schema, isRequired, isNullable) {
  const node = el("input", {
    type: "text", autocomplete: "off", minlength: schema.minLength, maxlength: schema.maxLength,
    placeholder: EXAMPLES[schema.format] ?? (isRequired && isNullable ? "null" : null),
  });
  const text = () => {
    if (node.value !== "") return JSON.stringify(node.value);
    if (!isRequired) return null;
    return isNullable ? "null" : '""';
  };
  return { node, text };
}

function json(isRequired) {
  const node = el("textarea", { rows: "3", spellcheck: "false", class: "mono", required: isRequired });
  const text = (name) => {
    const typed = node.value.trim();
    if (typed === "") return null;
    checkJson(typed, name);
    return typed;
  };
  return { node, text };
}

/** Throw, with a text for people, where it is no JSON. */
export function checkJson(text, name) {
  try {
    JSON.parse(text);
  } catch (error) {
    throw new Error(`${name} is not valid JSON: ${error.message}`);
  }
}
