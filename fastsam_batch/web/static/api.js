// Questions to the server. A refusal is an Error with the server's own sentence.

/** An address of the server; arrays become repeated parameters, empty values are left out. */
export function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "" && each !== false) query.append(name, each);
    }
  }
  return `/api/${path}?${query}`;
}

export async function ask(path, parameters = {}, options = {}) {
  const response = await answered(address(path, parameters), options);
  return response.json();
}

export async function post(path, body) {
  return answered(`/api/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}

async function answered(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  throw new Error(await sentence(response));
}

/** What an answer that is a refusal says. */
export async function sentence(response) {
  try {
    const { error } = await response.json();
    return `${error[0].toUpperCase()}${error.slice(1)}.`;
  } catch {
    return `The server answered ${response.status}.`;
  }
}
