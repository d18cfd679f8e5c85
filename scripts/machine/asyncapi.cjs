// Parses an AsyncAPI document with everything that it refers to; exit status 1 where anything is wrong with it.
const { Parser, fromFile } = require("@asyncapi/parser");

fromFile(new Parser(), process.argv[2])
  .parse()
  .then(({ document, diagnostics }) => {
    for (const { path, message } of diagnostics) console.error(`${path.join(".")}: ${message}`);
    const messages = document ? document.messages().all().length : 0;
    console.log(`${messages} messages`);
    process.exitCode = messages > 0 && diagnostics.length === 0 ? 0 : 1;
  });
