// Publishes standard input as one job, with no properties at all, and waits for the broker's confirm.
//
//   node publish.js URL SENDER < job.json
"use strict";

const fs = require("node:fs");
const amqp = require("amqplib");

async function main(url, sender) {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  channel.publish("otpost.jobs", sender, fs.readFileSync(0));
  await channel.waitForConfirms();
  await connection.close();
}

main(process.argv[2], process.argv[3]).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
