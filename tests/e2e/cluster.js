// Node's cluster: the first process accepts every connection and passes it to a worker, by its default.
//   cluster.js PORT CONNECTIONS ROUNDS   serves and asks, checks each answer
const cluster = require('cluster');
const net = require('net');
const [port, connections, rounds] = process.argv.slice(2).map(Number);

function ask(left) {
  if (left === 0) {
    console.log('all answered');
    for (const id in cluster.workers) cluster.workers[id].kill();
    return;
  }
  const socket = net.connect(port, '127.0.0.1');
  let round = 0;
  let received = '';
  const next = () => socket.write(`line ${round} of ${left};`);
  socket.on('connect', next);
  socket.on('data', (data) => {
    received += data;
    if (!received.endsWith(';')) return;
    if (received !== `answer: line ${round} of ${left};`) throw new Error(received);
    received = '';
    if (++round < rounds) return next();
    socket.end();
    ask(left - 1);
  });
}

if (cluster.isMaster) {
  let listening = 0;
  cluster.on('listening', () => { if (++listening === 2) ask(connections); });
  for (let i = 0; i < 2; ++i) cluster.fork();
} else {
  net.createServer((socket) => {
    socket.on('data', (data) => socket.write(`answer: ${data}`));
    socket.on('error', () => {});
  }).listen(port, '127.0.0.1');
}
