//! The load generator of the benchmarks.
//!
//!     mantou-load SCENARIO --port 7000 [--connections 50] [--size 64] [--depth 1] [--idle 0]
//!                          [--tls certificate.pem] [--resume]
//!
//! Scenarios: `echo` (with a depth: so many at once, the next when all are back), `sink` (sends
//! `size` bytes for each byte that comes back), `source` (gets `size` bytes for each byte it sends),
//! `churn` (connect, one echo, close), `fanout` (one message in, one out to every connection), `hold`
//! (each line is the number of connections to have open from then on).
//!
//! Connects, prints "ready", then runs a round for each line on stdin (`1.5s` or `100000` messages)
//! and prints its figures as JSON. Connections stay open between rounds. Ends with stdin.

mod churn;
mod exchange;
mod fanout;
mod hold;
mod poller;
mod report;
mod wire;

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use churn::Churn;
use exchange::{Exchange, Shape};
use fanout::FanOut;
use hold::Hold;
use report::{Amount, Report};
use wire::{Target, tls_config};

struct Options {
    scenario: String,
    port: u16,
    connections: usize,
    size: usize,
    depth: usize,
    idle: usize,
    certificate: Option<String>,
    resume: bool,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            scenario: String::new(),
            port: 0,
            connections: 50,
            size: 64,
            depth: 1,
            idle: 0,
            certificate: None,
            resume: false,
        };
        let mut arguments = arguments.skip(1);
        options.scenario = arguments.next().ok_or("which scenario?")?;
        while let Some(name) = arguments.next() {
            if name == "--resume" {
                options.resume = true;
                continue;
            }
            let value = arguments.next().ok_or(format!("{name} needs a value"))?;
            match name.as_str() {
                "--port" => options.port = value.parse()?,
                "--connections" => options.connections = value.parse()?,
                "--size" => options.size = value.parse()?,
                "--depth" => options.depth = value.parse()?,
                "--idle" => options.idle = value.parse()?,
                "--tls" => options.certificate = Some(value),
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        if options.port == 0 || options.connections.min(options.size).min(options.depth) == 0 {
            return Err("--port, --connections, --size and --depth must be above 0".into());
        }
        Ok(options)
    }

    fn shape(&self) -> Shape {
        let (request, reply) = match self.scenario.as_str() {
            "sink" => (self.size, 1),
            "source" => (1, self.size),
            _ => (self.size, self.size),
        };
        let echo = matches!(self.scenario.as_str(), "echo" | "hold");
        Shape {
            request,
            reply,
            depth: self.depth,
            batch: echo,
            echo,
        }
    }
}

enum Scenario {
    Exchange(Exchange),
    Churn(Churn),
    FanOut(FanOut),
    Hold(Hold),
}

impl Scenario {
    fn new(options: &Options, target: Target) -> Result<Self, Box<dyn Error>> {
        let connections = options.connections;
        Ok(match options.scenario.as_str() {
            "echo" | "sink" | "source" => Self::Exchange(Exchange::new(
                &target,
                connections,
                options.idle,
                options.shape(),
            )?),
            "churn" => Self::Churn(Churn::new(target, connections, options.size)?),
            "fanout" => Self::FanOut(FanOut::new(&target, connections, options.size)?),
            "hold" => Self::Hold(Hold::new(target, options.shape())),
            other => return Err(format!("unknown scenario {other}").into()),
        })
    }

    fn round(&mut self, amount: Amount) -> io::Result<Report> {
        match self {
            Self::Exchange(scenario) => scenario.round(amount),
            Self::Churn(scenario) => scenario.round(amount),
            Self::FanOut(scenario) => scenario.round(amount),
            Self::Hold(scenario) => {
                let count = amount.count();
                scenario.round(count.ok_or(io::Error::other("hold needs a number"))?)
            }
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args())?;
    let tls = match &options.certificate {
        Some(certificate) => Some(Arc::new(tls_config(certificate, options.resume)?)),
        None => None,
    };
    let port = options.port;
    let mut scenario = Scenario::new(&options, Target { port, tls })?;
    let mut output = io::stdout();
    writeln!(output, "ready")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let amount = Amount::parse(line.trim()).ok_or(format!("no amount: {line:?}"))?;
        writeln!(output, "{}", scenario.round(amount)?.json())?;
    }
    Ok(())
}

fn main() {
    if let Err(error) = run() {
        eprintln!("mantou-load: {error}");
        std::process::exit(1);
    }
}
