// A value some cycles later.
module delay #(
    parameter int unsigned WIDTH  = 1,
    parameter int unsigned CYCLES = 1   // 0: a wire
) (
    input  logic             clk,
    input  logic [WIDTH-1:0] in_data,
    output logic [WIDTH-1:0] out_data
);

  // The newest value lies lowest.
  localparam int unsigned Length = (CYCLES == 0 ? 1 : CYCLES) * WIDTH;
  logic [Length-1:0] line;

  always_ff @(posedge clk) line <= Length'({line, in_data});
  assign out_data = CYCLES == 0 ? in_data : line[Length-1-:WIDTH];

endmodule
