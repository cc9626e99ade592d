// Node's `ws`, as its documentation broadcasts. Not installed with trueup: `npm install --prefix bench/peers` brings it.
const net = require('node:net');
const { WebSocketServer } = require('ws');

const [port, sourcePort] = process.argv.slice(2).map(Number);
const server = new WebSocketServer({ host: '127.0.0.1', port, perMessageDeflate: false });

net.createServer((source) => {
  let rest = Buffer.alloc(0);
  source.on('data', (data) => {
    rest = Buffer.concat([rest, data]);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const line = rest.subarray(0, end);
      for (const client of server.clients) client.send(line, { binary: false });
      rest = rest.subarray(end + 1);
    }
  });
  source.on('error', () => source.destroy());
}).listen(sourcePort, '127.0.0.1');
