// Node's http server as its manual shows it: http_peer.js PORT answers everything with 1 KiB.
const http = require('http');

const body = Buffer.alloc(1024, 'x');
http.createServer((request, response) => {
  response.writeHead(200, {'Content-Type': 'text/plain', 'Content-Length': body.length});
  response.end(body);
}).listen(Number(process.argv[2]), '127.0.0.1');
// By exit, and not by a signal's death: a preloaded library writes its statistics there.
process.on('SIGTERM', () => process.exit(0));
